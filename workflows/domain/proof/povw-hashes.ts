import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js';
import { concatBytes, isHash, lengthPrefixed, u32le, u64le } from './bytes.ts';
import { merkleRoot } from './merkle.ts';
import type { PovwBinding, PovwProfile } from './messages.ts';

/** Part of S, and what `graval info` reports: programs of two versions prove different things. */
export const PROOF_VERSION = 'povw/2';

/** What the proof hashes, each under a tag byte of its own (docs/proof.md "Exact definition"). Tag 0x01 is the Merkle node's. */
const tag = (value: number): Uint8Array => new Uint8Array([value]);
const ROW = tag(0);
const BLOCK_ROOT = tag(2);
const COLUMN = tag(3);
const TRACE = tag(4);
const PARTNER = tag(5);

const asBytes = (x: Int8Array): Uint8Array => new Uint8Array(x.buffer, x.byteOffset, x.length);

/** S: every field length-prefixed; hex fields as their bytes, the rest UTF-8, V as uint64 little-endian. */
export function seedOf(binding: PovwBinding): Uint8Array {
  return sha256(
    concatBytes(
      ...[
        utf8ToBytes(PROOF_VERSION),
        hexToBytes(binding.validatorNonce),
        utf8ToBytes(binding.configId),
        utf8ToBytes(binding.minerHotkey),
        utf8ToBytes(binding.gpuUuid),
        utf8ToBytes(binding.gpuType),
        u64le(binding.vramBytes),
        hexToBytes(binding.transportPublicKey),
      ].map(lengthPrefixed),
    ),
  );
}

export const rowLeaf = (block: number, row: number, entries: Int8Array): Uint8Array =>
  sha256(concatBytes(ROW, u32le(block), u32le(row), asBytes(entries)));
export const blockRootLeaf = (block: number, root: Uint8Array): Uint8Array =>
  sha256(concatBytes(BLOCK_ROOT, u32le(block), root));
export const columnLeaf = (step: number, column: number, entries: Int8Array): Uint8Array =>
  sha256(concatBytes(COLUMN, u32le(step), u32le(column), asBytes(entries)));

/** Trace leaf t binds x_t by the root over its column leaves. D is leaf T. */
export const traceLeaf = (step: number, columnsRoot: Uint8Array): Uint8Array =>
  sha256(concatBytes(TRACE, u32le(step), columnsRoot));

/** j of block i ≥ 2: the first 8 bytes (uint64 little-endian) of H(0x05 ‖ S ‖ i ‖ root_{i−1}), modulo i − 1. */
export function partnerBlock(seed: Uint8Array, block: number, previousRoot: Uint8Array): number {
  const digest = sha256(concatBytes(PARTNER, seed, u32le(block), previousRoot));
  return Number(new DataView(digest.buffer, digest.byteOffset).getBigUint64(0, true) % BigInt(block - 1));
}

/** Key of the PRG that draws x₀: H(S ‖ N₂ ‖ R). */
export const startKey = (seed: Uint8Array, nonce2: Uint8Array, root: Uint8Array): Uint8Array =>
  sha256(concatBytes(seed, nonce2, root));

/** Root over the columns of x_t; x is column-major, entry (r, c) at c·n + r. */
export function columnLeaves(step: number, x: Int8Array, n: number, k: number): Uint8Array[] {
  return Array.from({ length: k }, (_, c) => columnLeaf(step, c, x.subarray(c * n, (c + 1) * n)));
}
export const columnsRootOf = (step: number, x: Int8Array, n: number, k: number): Uint8Array =>
  merkleRoot(columnLeaves(step, x, n, k));

export const toHex = bytesToHex;

/** Bounds inside which every sum is exact and every index fits its encoding. */
export function isSoundProfile(profile: PovwProfile): boolean {
  const { n, k, blocks, steps, fillSamples, walkSamples } = profile;
  return (
    [n, k, blocks, steps, fillSamples, walkSamples].every((value) => Number.isSafeInteger(value) && value >= 1) &&
    n <= 131_072 &&
    k <= 4096 &&
    blocks >= 2 &&
    blocks <= 65_536 &&
    steps <= 1_048_576 &&
    fillSamples <= 4096 &&
    walkSamples <= 4096 &&
    walkSamples >= 2
  );
}

export const isSoundBinding = (binding: PovwBinding): boolean =>
  isHash(binding.validatorNonce) &&
  isHash(binding.transportPublicKey) &&
  Number.isSafeInteger(binding.vramBytes) &&
  binding.vramBytes >= 0 &&
  [binding.configId, binding.minerHotkey, binding.gpuUuid, binding.gpuType].every(
    (text) => typeof text === 'string' && text.length <= 256,
  );
