import type { TrustLevel } from '../../domain/proof/messages.ts';
import type { VerificationOutcome } from './messages.ts';

/**
 * What one proof of several GPUs means for each of them. A wrong opening is the fault of the GPU that gave it; a late or
 * missing answer is everybody's: who lent what to whom cannot be told. `trustLevel`: what the plug-in reaches.
 */
export function outcomeOfGpu(outcome: VerificationOutcome, uuid: string, trustLevel: TrustLevel): VerificationOutcome {
  if (outcome.kind !== 'failed' || !outcome.summary) return outcome;
  const own = outcome.summary.gpus.find(({ gpuUuid }) => gpuUuid === uuid);
  if (!own) return outcome;
  if (own.verified) return { kind: 'verified', atMs: outcome.atMs, summary: { ...outcome.summary, trustLevel } };
  return { ...outcome, reason: own.reason ?? outcome.reason };
}
