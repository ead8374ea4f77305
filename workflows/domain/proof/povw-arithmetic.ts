import { chacha20 } from '@noble/ciphers/chacha.js';

/** The exact arithmetic of the proof (docs/proof.md "Exact definition"): int8, int32 and uint32 only, so every device agrees. */

const ZERO_NONCE = new Uint8Array(12);
const MULTIPLIER = 0x9e3779b1;
/** Added to the block number of the walk's tweak, so that fill and walk never share one. */
const WALK_DOMAIN = 0x80000000;

/** −128 does not occur: it becomes −127, so that a product of two entries stays below 2^14. */
function clampToInt8(bytes: Uint8Array): Int8Array {
  const out = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < out.length; at++) if (out[at] === -128) out[at] = -127;
  return out;
}

/** Bytes [offset, offset + length) of the ChaCha20 key stream (RFC 8439: zero nonce, counter from 0), as int8. */
export function prg(key: Uint8Array, offset: number, length: number): Int8Array {
  const skip = offset % 64;
  const stream = chacha20(key, ZERO_NONCE, new Uint8Array(skip + length), undefined, Math.floor(offset / 64));
  return clampToInt8(stream.slice(skip));
}

export const fillTweak = (block: number, row: number, column: number): number =>
  (Math.imul(block, 0x27d4eb2f) + Math.imul(row, 0x85ebca6b) + Math.imul(column, 0xc2b2ae35)) | 0;
/** `step` is the number of the x that is made: t + 1. */
export const walkTweak = (step: number, row: number, column: number): number =>
  fillTweak(WALK_DOMAIN + step, row, column);

/** int32 → int8: top byte of (sum·0x9E3779B1 mod 2^32) XOR tweak; −128 becomes −127. */
export function q(sum: number, tweak: number): number {
  const top = (Math.imul(sum, MULTIPLIER) ^ tweak) >> 24;
  return top === -128 ? -127 : top;
}

/** Σ a[aAt + m]·b[bAt + m] for m < length; below 2^31 for length ≤ 131072. */
export function dot(a: Int8Array, aAt: number, b: Int8Array, bAt: number, length: number): number {
  let sum = 0;
  for (let m = 0; m < length; m++) sum = (sum + (a[aAt + m] as number) * (b[bAt + m] as number)) | 0;
  return sum;
}

/**
 * Block of step t: every M steps read every block once. An order that the prover cannot influence; one that hung on x would be
 * steered past missing blocks by a single wrong entry (docs/proof.md "Why the order is fixed").
 */
export const walkBlock = (step: number, blocks: number): number => step % blocks;
