import type { TrustLevel } from '../../domain/proof/messages.ts';
import type { VerificationOutcome } from './messages.ts';

/**
 * What one proof of several GPUs means for one of them, without what it says of the others. A wrong opening is the fault of the
 * GPU that gave it; a late or missing answer is everybody's: who lent what to whom cannot be told. `trustLevel`: what the
 * plug-in reaches.
 */
export function outcomeOfGpu(outcome: VerificationOutcome, uuid: string, trustLevel: TrustLevel): VerificationOutcome {
  if (outcome.kind === 'silent' || outcome.kind === 'unclear' || !outcome.summary) return outcome;
  const gpus = outcome.summary.gpus.filter(({ gpuUuid }) => gpuUuid === uuid);
  const summary = { ...outcome.summary, gpus };
  if (outcome.kind === 'verified') return { ...outcome, summary };
  const [own] = gpus;
  if (own?.verified) return { kind: 'verified', atMs: outcome.atMs, summary: { ...summary, trustLevel } };
  return { ...outcome, summary, reason: own?.reason ?? outcome.reason };
}
