import { chacha20 } from '@noble/ciphers/chacha.js';
import type { FillSampleIndex, PovwProfile, WalkSampleIndex } from './messages.ts';

/**
 * Indices to open, from 32 fresh random bytes that the prover has not seen. The first two walk samples are the first
 * and the last step: they tie x₀ to the challenge and D to the trace. Every other index is uniform.
 */
export function drawSamples(
  profile: PovwProfile,
  random: Uint8Array,
): { fill: FillSampleIndex[]; walk: WalkSampleIndex[] } {
  const { n, k, blocks, steps, fillSamples, walkSamples } = profile;
  const stream = chacha20(random, new Uint8Array(12), new Uint8Array((fillSamples + walkSamples) * 3 * 8));
  const words = new DataView(stream.buffer, stream.byteOffset, stream.length);
  let at = 0;
  // 2^64 modulo at most 2^20: the bias is below 2^-44
  const below = (limit: number): number => Number(words.getBigUint64(8 * at++, true) % BigInt(limit));
  const fill = Array.from({ length: fillSamples }, () => ({ block: below(blocks), row: below(n), column: below(n) }));
  const walk = Array.from({ length: walkSamples }, (_, index) => {
    const drawn = below(steps);
    return { step: index === 0 ? 0 : index === 1 ? steps - 1 : drawn, row: below(n), column: below(k) };
  });
  return { fill, walk };
}
