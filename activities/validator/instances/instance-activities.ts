import { cancellationSignal } from '@temporalio/activity';
import type { Knex } from 'knex';
import type { ProofPluginName } from '../../../workflows/domain/proof/plugin.ts';
import type { SecretBox } from '../../clients/secret-box.ts';
import { claimInstanceRow, type ClaimLaunch, type ClaimOutcome } from './claim-instance.ts';
import { gpusInSweep } from '../nodes/gpus-in-sweep.ts';
import {
  recordActiveRow,
  recordVerifiedRow,
  removeInstanceRow,
  sessionSecretContext,
  setRoutableRow,
  stopRoutingRow,
  type ActivationOutcome,
  type RecordVerified,
  type RemoveInstance,
} from './instance-store.ts';
import { whyNotServing } from './probe-instance.ts';

/** What one look found. `missing`: the row is gone. `consecutiveFailures` are the gateways' own, reset by a served request. */
export type Sight =
  | { kind: 'missing' }
  | { kind: 'serving'; consecutiveFailures: number }
  | { kind: 'unseen'; detail: string; consecutiveFailures: number };

export interface InstanceActivityDeps {
  db: Knex;
  box: SecretBox;
  config: { CANOPY_NETUID: number; CANOPY_PROOF: ProofPluginName };
}

/** Looks in a row before an instance counts as unseen: one lost packet is no outage. */
const LOOKS = 2;

/** The outside effects of `instance/<id>`. Every one may run twice. */
export function createInstanceActivities({ db, box, config }: InstanceActivityDeps) {
  return {
    claimLaunch: (input: ClaimLaunch): Promise<ClaimOutcome> =>
      claimInstanceRow(db, config.CANOPY_NETUID, config.CANOPY_PROOF, input),
    gpusInSweep: (input: { gpuUuids: string[] }): Promise<string[]> => gpusInSweep(db, input),
    recordVerified: (input: RecordVerified): Promise<{ verifiedAtMs: number }> => recordVerifiedRow(db, box, input),
    recordActive: (input: { instanceId: string }): Promise<ActivationOutcome> => recordActiveRow(db, input),
    setRoutable: (input: { instanceId: string; isRoutable: boolean; detail: string }): Promise<void> =>
      setRoutableRow(db, input),
    stopRouting: (input: { instanceId: string }): Promise<{ wasRoutable: boolean }> => stopRoutingRow(db, input),
    forgetInstance: (input: RemoveInstance): Promise<void> => removeInstanceRow(db, input),

    /** Changes nothing. Throws only when the validator itself is blind (no database). */
    async probeInstance({ instanceId }: { instanceId: string }): Promise<Sight> {
      const row: ProbedRow | undefined = await db('instances')
        .where({ instance_id: instanceId })
        .first('host', 'port', 'tls_cert_sha256', 'session_secret_sealed', 'consecutive_failures');
      if (!row) return { kind: 'missing' };
      const consecutiveFailures = row.consecutive_failures;
      if (!row.tls_cert_sha256 || !row.session_secret_sealed)
        return { kind: 'unseen', detail: 'no key to ask with', consecutiveFailures };
      const secret = box.open(row.session_secret_sealed, sessionSecretContext(instanceId));
      let detail: string | null = null;
      for (let look = 0; look < LOOKS; look++) {
        detail = await whyNotServing(
          { host: row.host, port: row.port, tlsCertSha256: row.tls_cert_sha256, secret },
          cancellationSignal(),
        );
        if (detail === null) return { kind: 'serving', consecutiveFailures };
      }
      return { kind: 'unseen', detail: detail ?? '', consecutiveFailures };
    },
  };
}

interface ProbedRow {
  host: string;
  port: number;
  tls_cert_sha256: string | null;
  session_secret_sealed: Buffer | null;
  consecutive_failures: number;
}
export type InstanceActivities = ReturnType<typeof createInstanceActivities>;
