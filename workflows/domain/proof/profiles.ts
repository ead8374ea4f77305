import type { PovwProfile } from './messages.ts';

/**
 * Sizes and limits by name. `cpu-dev` claims no memory: same code path, milliseconds on a CPU, trust level `simulated`.
 * Its limits are loose on purpose (several simulated GPUs share two cores); a real profile's are calibrated per type.
 */
export const PROFILES = {
  'cpu-dev': {
    name: 'cpu-dev',
    n: 64,
    k: 4,
    blocks: 64,
    steps: 256,
    fillSamples: 16,
    walkSamples: 16,
    fillLimitMs: 30_000,
    walkLimitMs: 30_000,
  },
  // for property tests and published vectors: small enough to read, odd enough to reach every rule of the trees
  'tiny-a': {
    name: 'tiny-a',
    n: 8,
    k: 2,
    blocks: 5,
    steps: 6,
    fillSamples: 4,
    walkSamples: 4,
    fillLimitMs: 30_000,
    walkLimitMs: 30_000,
  },
  'tiny-b': {
    name: 'tiny-b',
    n: 12,
    k: 3,
    blocks: 7,
    steps: 9,
    fillSamples: 5,
    walkSamples: 5,
    fillLimitMs: 30_000,
    walkLimitMs: 30_000,
  },
} as const satisfies Record<string, PovwProfile>;

export type ProfileName = keyof typeof PROFILES;

/** Every GPU of plug-in `simulated` proves with this one. */
export const simulatedProfile = (): PovwProfile => PROFILES['cpu-dev'];
