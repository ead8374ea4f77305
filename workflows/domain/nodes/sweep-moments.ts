/** A minute after the first failure, then four times as long each time: others' GPUs are proven along with it. */
const FIRST_RETRY_MS = 60_000;

/** From one sweep to the next. Memoryless: a moment just after a sweep is no safer than any other. At most three periods. */
export const nextSweepMs = (everyMs: number, random: () => number): number =>
  Math.min(-Math.log(1 - random()), 3) * everyMs;

/** How long a GPU waits that did not pass `failures` times in a row: it must not have all the others proven over and over. */
export const retrySweepMs = (failures: number, everyMs: number): number =>
  Math.min(FIRST_RETRY_MS * 4 ** Math.max(0, failures - 1), everyMs);
