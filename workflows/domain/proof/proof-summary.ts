import type { PovwChallenge } from './messages.ts';
import type { ProofSession, ProofSummary, ProofVerdict } from './plugin.ts';

/** Bytes that M blocks of n² int8 occupy. */
export const filledBytes = ({ profile }: PovwChallenge): number => profile.blocks * profile.n ** 2;

/** The record kept with a node or instance. Times in milliseconds, measured at the edge; null where nothing was timed. */
export function summariseProof(
  session: ProofSession,
  verdict: ProofVerdict,
  fillMs: number | null,
  walkMs: number | null,
): ProofSummary {
  return {
    trustLevel: verdict.verified ? verdict.trustLevel : 'none',
    gpus: session.challenges.map((challenge) => {
      const gpuUuid = challenge.binding.gpuUuid;
      const found = verdict.verdicts.find((each) => each.gpuUuid === gpuUuid);
      return {
        gpuUuid,
        bytesFilled: filledBytes(challenge),
        samplesChecked: found?.verified ? found.samplesChecked : 0,
        verified: found?.verified ?? false,
        reason: found ? (found.verified ? null : found.reason) : 'not_checked',
        record: found?.record ? { ...found.record, binding: challenge.binding } : null,
      };
    }),
    fillMs,
    walkMs,
  };
}
