import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { activityInfo, cancellationSignal, heartbeat } from '@temporalio/activity';
import type { GpuVerdict } from '../../../workflows/domain/proof/messages.ts';
import type {
  ProofSession,
  ProofVerdict,
  ProofVerificationActivities,
} from '../../../workflows/domain/proof/plugin.ts';
import { verifyOpenings } from '../../../workflows/domain/proof/verify-openings.ts';
import type { BlobStore } from '../../clients/s3.ts';

/** Queue `gpu`. A verdict, a "no" included, is a value; only a failing store is an error. */
export function createProofVerificationActivities({
  blobs,
}: {
  blobs: Pick<BlobStore, 'get'>;
}): ProofVerificationActivities {
  return {
    async verifyProof({ session, openings }): Promise<ProofVerdict> {
      if (session.plugin === 'none') return { verified: true, trustLevel: 'none', verdicts: [] };
      const { roots, nonce2, walks, samples } = session;
      if (!roots || !nonce2 || !walks || !samples || !openings || session.challenges.length === 0) {
        return { verified: false, reason: 'proof_incomplete', verdicts: [] };
      }
      const opened = await openingsOf(blobs, openings);
      const resume = activityInfo().heartbeatDetails as { verdicts: GpuVerdict[] } | undefined;
      const verdicts = [...(resume?.verdicts ?? [])];
      for (const challenge of session.challenges.slice(verdicts.length)) {
        await setImmediate(); // a GPU's samples are one burst of arithmetic: let heartbeats out between them
        cancellationSignal().throwIfAborted();
        const uuid = challenge.binding.gpuUuid;
        verdicts.push(
          verifyOpenings({
            challenge,
            nonce2,
            root: roots[uuid],
            walk: walks[uuid],
            samples: samples[uuid] ?? { fill: [], walk: [] },
            openings: Object.hasOwn(opened, uuid) ? opened[uuid] : null,
          }),
        );
        heartbeat({ verdicts });
      }
      return verdictOf(session, verdicts);
    },
  };
}

function verdictOf(session: ProofSession, verdicts: GpuVerdict[]): ProofVerdict {
  for (const verdict of verdicts) {
    if (!verdict.verified) return { verified: false, reason: verdict.reason, verdicts };
  }
  return { verified: true, trustLevel: session.plugin === 'none' ? 'none' : 'simulated', verdicts };
}

/** What the prover sent, by GPU; `{}` when it is not JSON of an object. Throws when the store does not have those bytes. */
async function openingsOf(
  blobs: Pick<BlobStore, 'get'>,
  { key, sha256 }: { key: string; sha256: string },
): Promise<Record<string, unknown>> {
  const bytes = await blobs.get(key);
  if (!bytes) throw new Error(`openings ${key} are not in the store`);
  if (createHash('sha256').update(bytes).digest('hex') !== sha256)
    throw new Error(`openings ${key} are not the bytes that were received`);
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
