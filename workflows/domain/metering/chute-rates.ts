/**
 * A chute's average speeds, so that a slow miner is paid like the fleet for the same tokens
 * (spec/validator-internals.md §4.4). One value per chute and gateway; a new gateway gathers anew.
 */
export interface ChuteRates {
  samples: number;
  lastAtMs: number;
  /** answers a second, smoothed */
  callRate: number;
  secondsPerToken: number | null;
  promptRate: number | null;
  outputRate: number | null;
}

export const NO_RATES: ChuteRates = {
  samples: 0,
  lastAtMs: 0,
  callRate: 0,
  secondsPerToken: null,
  promptRate: null,
  outputRate: null,
};
const USABLE_AFTER = 25;
const MASPT_ALPHA = 2 / 10_001;
const SMOOTHING_WINDOW_S = 600;

export interface StreamedAnswer {
  atMs: number;
  inputTokens: number;
  outputTokens: number;
  firstByteMs: number;
  durationMs: number;
}

/** The averages with one more streamed answer; answers that say nothing (no tokens, no time) leave them as they are. */
export function withAnswer(rates: ChuteRates, answer: StreamedAnswer): ChuteRates {
  const tokens = answer.inputTokens + answer.outputTokens;
  const outputMs = answer.durationMs - answer.firstByteMs;
  if (tokens === 0 || answer.inputTokens === 0 || answer.outputTokens === 0 || answer.firstByteMs <= 0 || outputMs <= 0)
    return rates;
  const elapsedS = Math.max((answer.atMs - rates.lastAtMs) / 1000, 0.001);
  const callRate = rates.samples === 0 ? 0 : 0.1 / elapsedS + 0.9 * rates.callRate;
  const alpha = Math.min(0.1, Math.max(1e-4, 1 / Math.max(callRate * SMOOTHING_WINDOW_S, 1e-9)));
  return {
    samples: rates.samples + 1,
    lastAtMs: answer.atMs,
    callRate,
    secondsPerToken: average(rates.secondsPerToken, answer.durationMs / 1000 / tokens, MASPT_ALPHA),
    promptRate: average(rates.promptRate, answer.inputTokens / (answer.firstByteMs / 1000), alpha),
    outputRate: average(rates.outputRate, answer.outputTokens / (outputMs / 1000), alpha),
  };
}

const average = (before: number | null, sample: number, alpha: number): number =>
  before === null ? sample : before + alpha * (sample - before);

/** What may be used for pay: null until enough answers were seen. */
export const usableRates = (rates: ChuteRates): { maspt: number | null; ptps: number | null; otps: number | null } =>
  rates.samples < USABLE_AFTER
    ? { maspt: rates.secondsPerToken, ptps: null, otps: null }
    : { maspt: rates.secondsPerToken, ptps: rates.promptRate, otps: rates.outputRate };
