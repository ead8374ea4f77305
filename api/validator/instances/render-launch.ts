import { randomBytes } from 'node:crypto';
import { launchSharedSecret } from '../../../activities/validator/instances/launch-keys.ts';
import { sessionSecretContext } from '../../../activities/validator/instances/instance-store.ts';
import { readHandover, type LaunchRow } from '../../../activities/validator/instances/launch-store.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { gpuType } from '../../../workflows/domain/gpus/gpu-table.ts';
import type { ProofSession } from '../../../workflows/domain/proof/plugin.ts';
import { CANOPY_TRANSPORT } from '../../../workflows/domain/protocol/canopy-transport.ts';
import type { ClaimAnswer, DeviceInfo, VerifyAnswer } from '../../../workflows/domain/protocol/launch.ts';
import { sealSessionSecret } from '../../../workflows/domain/protocol/sealed-secret.ts';
import { launchUrlOf } from '../auth/launch-token.ts';
import type { ValidatorDeps } from '../deps.ts';

/** The claim's answer (§2.6.2). The GraVal ciphertext is empty: the plug-ins offered prove in `canopy.proof`. */
export function renderClaim(launch: LaunchRow, session: ProofSession, gpus: readonly DeviceInfo[]): ClaimAnswer {
  const seed = launch.seed ?? 0;
  const type = gpuType(session.challenges[0]?.binding.gpuType ?? '');
  return {
    seed,
    iterations: type?.graval.iterations ?? 1,
    job_id: null,
    symmetric_key: {
      ciphertext: '',
      uuid: gpus[0]?.uuid ?? '',
      response_plaintext: `secret is ${launch.config_id} ${seed}`,
    },
    canopy: {
      transport: CANOPY_TRANSPORT,
      validator_pubkey: launch.ephemeral_public_key,
      proof:
        session.plugin === 'none'
          ? { plugin: 'none' }
          : { plugin: session.plugin, challenges: session.challenges, deadline_ms: session.deadlineMs },
    },
  };
}

/** The answer to an accepted proof (§2.6.3, §7.2): the chute's code, and the session secret sealed to the instance. */
export async function renderVerified(
  { config, db, box }: Pick<ValidatorDeps, 'config' | 'db' | 'box'>,
  launch: LaunchRow,
  session: ProofSession,
  verifiedAt: string,
): Promise<VerifyAnswer> {
  const row = await readHandover(db, launch.instance_id);
  if (!row?.session_secret_sealed || row.transport_public_key === null)
    throw new Refusal('resource.not_found', 'Instance was deleted');
  if (row.code === null) throw new Refusal('resource.gone', 'the chute has a newer version');
  const { roots, walks, nonce2 } = session;
  return {
    chute_id: launch.chute_id,
    instance_id: launch.instance_id,
    verified_at: verifiedAt,
    activation_url: `${launchUrlOf(config, launch.config_id)}/activate`,
    code: row.code,
    fs_key: '',
    efs: false,
    secrets: {},
    job_id: null,
    job_method: null,
    job_data: null,
    job_status_url: null,
    canopy: {
      sealed_secret: sealSessionSecret({
        sharedSecret: launchSharedSecret(box, launch.config_id, launch.ephemeral_key_sealed, row.transport_public_key),
        nonce2,
        proofs: Object.entries(walks ?? {}).map(([gpuUuid, { digest }]) => ({
          gpuUuid,
          root: roots?.[gpuUuid] ?? '',
          digest,
        })),
        secret: box.open(row.session_secret_sealed, sessionSecretContext(launch.instance_id)),
        nonce: randomBytes(12),
      }),
      concurrency: row.concurrency,
      filename: row.filename,
      ref_str: row.ref_str,
      trust_level: row.trust_level,
    },
  };
}
