import type { Usage } from '../openai/usage.ts';
import type { Metrics } from './record.ts';

export interface Served {
  durationMs: number;
  /** from the attempt's start to its first byte */
  firstByteMs: number;
  isStream: boolean;
  usage: Usage | null;
  /** stream chunks with content */
  chunks: number | null;
  steps: number | null;
  meanConnections: number;
  isPrivate: boolean;
}

/** The metrics cell of one served attempt (spec/validator-api.md §2.12): seconds, tokens, tokens a second. */
export function metricsOf(
  served: Served,
  rates: { maspt: number | null; ptps: number | null; otps: number | null },
): Metrics {
  const tt = round(served.durationMs / 1000);
  const metrics: Metrics = { tt, p: served.isPrivate, mc: served.meanConnections };
  if (served.steps !== null)
    Object.assign(metrics, { steps: served.steps, sps: perSecond(served.steps, served.durationMs) });
  if (!served.usage) return metrics;
  const { inputTokens: it, outputTokens: ot } = served.usage;
  Object.assign(metrics, {
    it,
    ot,
    tps: perSecond(ot, served.durationMs),
    ctps: perSecond(it + ot, served.durationMs),
  });
  if (served.isStream) Object.assign(metrics, { ttft: round(served.firstByteMs / 1000), tokens: served.chunks ?? ot });
  if (rates.maspt !== null) metrics.maspt = round(rates.maspt, 9);
  if (rates.ptps !== null && rates.otps !== null) {
    Object.assign(metrics, {
      ptps: round(rates.ptps),
      otps: round(rates.otps),
      nc: round(it / rates.ptps + ot / rates.otps),
    });
  }
  return metrics;
}

const perSecond = (count: number, ms: number): number => round(count / Math.max(ms / 1000, 0.001));
const round = (value: number, digits = 6): number => Number(value.toFixed(digits));
