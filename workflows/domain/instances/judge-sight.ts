import type { RemovalCode } from './removal.ts';

/** Failed requests in a row, counted by the gateways, after which an instance goes (spec/validator-internals.md §3.6). */
export const MAX_CONSECUTIVE_FAILURES = 7;

export interface Watch {
  status: 'active' | 'disabled';
  /** how long it has been seen not to serve */
  silentMs: number;
}
export type Seen = { isServing: boolean; consecutiveFailures: number };
export type Judgement = { kind: 'keep'; watch: Watch } | { kind: 'remove'; code: RemovalCode };

/**
 * What one look changes. The first look that fails takes an instance out of routing, only silence through the whole grace
 * ends it, and a look that succeeds forgives all. `sinceMs` is the time since the last look, at most two intervals of
 * which count: time in which nobody looked is not silence.
 */
export function judgeSight(
  watch: Watch,
  seen: Seen,
  { sinceMs, intervalMs, graceMs }: { sinceMs: number; intervalMs: number; graceMs: number },
): Judgement {
  if (seen.consecutiveFailures >= MAX_CONSECUTIVE_FAILURES && watch.status === 'active')
    return { kind: 'remove', code: 'consecutive_failures' };
  if (seen.isServing) return { kind: 'keep', watch: { status: 'active', silentMs: 0 } };
  if (watch.status === 'active') return { kind: 'keep', watch: { status: 'disabled', silentMs: 0 } };
  const silentMs = watch.silentMs + Math.min(sinceMs, 2 * intervalMs);
  return silentMs >= graceMs
    ? { kind: 'remove', code: 'silent' }
    : { kind: 'keep', watch: { status: 'disabled', silentMs } };
}
