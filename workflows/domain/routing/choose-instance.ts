export const MAX_ATTEMPTS = 5;

export interface Candidate {
  instanceId: string;
  inFlight: number;
  pausedUntilMs: number;
}

export type Choice =
  | { kind: 'chosen'; instanceId: string }
  | { kind: 'none' }
  | { kind: 'full' }
  | { kind: 'exhausted' };

/**
 * The less loaded of two random instances with room. A paused instance (it failed a moment ago) is taken only when
 * nothing else is left, the one whose pause ends first: a single instance must not lose its chute to one bad answer.
 * `random` are two draws in [0, 1).
 */
export function chooseInstance(
  candidates: readonly Candidate[],
  {
    tried,
    concurrency,
    nowMs,
    random,
  }: {
    tried: ReadonlySet<string>;
    concurrency: number;
    nowMs: number;
    random: readonly [number, number];
  },
): Choice {
  if (candidates.length === 0) return { kind: 'none' };
  const untried = candidates.filter((candidate) => !tried.has(candidate.instanceId));
  if (untried.length === 0 || tried.size >= MAX_ATTEMPTS) return { kind: 'exhausted' };
  const free = untried.filter((candidate) => candidate.inFlight < concurrency);
  if (free.length === 0) return { kind: 'full' };
  const awake = free.filter((candidate) => candidate.pausedUntilMs <= nowMs);
  if (awake.length === 0) {
    const [soonest] = [...free].sort((a, b) => a.pausedUntilMs - b.pausedUntilMs);
    return soonest ? { kind: 'chosen', instanceId: soonest.instanceId } : { kind: 'full' };
  }
  const first = awake[Math.floor(random[0] * awake.length)];
  // the second draw is from the others
  const second =
    awake[(Math.floor(random[0] * awake.length) + 1 + Math.floor(random[1] * (awake.length - 1))) % awake.length];
  if (!first || !second) return { kind: 'full' };
  return { kind: 'chosen', instanceId: second.inFlight < first.inFlight ? second.instanceId : first.instanceId };
}

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 60_000;

/** How long an instance that failed `consecutive` times in a row is left alone: doubling, at most a minute. */
export const pauseMs = (consecutive: number): number =>
  consecutive <= 0 ? 0 : Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(consecutive - 1, 20));
