import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js';
import { concatBytes, isHash } from './bytes.ts';
import type { MerklePath } from './messages.ts';

const NODE = new Uint8Array([1]);
const parent = (left: Uint8Array, right: Uint8Array): Uint8Array => sha256(concatBytes(NODE, left, right));

/** All levels, leaf hashes first. node = H(0x01 ‖ left ‖ right); the last of an odd level moves up unchanged. */
export function merkleLevels(leaves: readonly Uint8Array[]): Uint8Array[][] {
  const levels: Uint8Array[][] = [[...leaves]];
  for (let level = levels[0] ?? []; level.length > 1;) {
    const above: Uint8Array[] = [];
    for (let at = 0; at < level.length; at += 2) {
      const [left, right] = level.slice(at, at + 2);
      if (left) above.push(right ? parent(left, right) : left);
    }
    levels.push(above);
    level = above;
  }
  return levels;
}

/** Root of at least one leaf hash. */
export function merkleRoot(leaves: readonly Uint8Array[]): Uint8Array {
  const [root] = merkleLevels(leaves).at(-1) ?? [];
  if (!root) throw new Error('a Merkle tree has at least one leaf');
  return root;
}

/** Sibling hashes from the leaf up; a level where the node has no sibling adds nothing. */
export function merklePath(levels: readonly (readonly Uint8Array[])[], index: number): MerklePath {
  const path: MerklePath = [];
  let at = index;
  for (const level of levels.slice(0, -1)) {
    const sibling = level[at ^ 1];
    if (sibling) path.push(bytesToHex(sibling));
    at >>= 1;
  }
  return path;
}

/** The root that `leaf` at `index` of `count` leaves and the path lead to; null when the path is not one of that tree. */
export function rootFromPath(leaf: Uint8Array, index: number, count: number, path: unknown): Uint8Array | null {
  if (!Array.isArray(path) || path.length > 32) return null;
  const siblings: unknown[] = path;
  let hash = leaf;
  let at = index;
  let used = 0;
  for (let width = count; width > 1; width = (width + 1) >> 1) {
    if ((at ^ 1) < width) {
      const sibling = siblings[used++];
      if (!isHash(sibling)) return null;
      hash = at & 1 ? parent(hexToBytes(sibling), hash) : parent(hash, hexToBytes(sibling));
    }
    at >>= 1;
  }
  return used === siblings.length ? hash : null;
}
