import { randomBytes } from 'node:crypto';

/** As the wire and the rows have it; workflows are named by the second half. */
export const fullTaskId = (minerHotkey: string, taskId: string): string => `${minerHotkey}::${taskId}`;

/** 1 … 2^63 − 1 as decimal text. */
export function randomSeed(): string {
  const seed = randomBytes(8).readBigUInt64BE() >> 1n;
  return String(seed === 0n ? 1n : seed);
}
