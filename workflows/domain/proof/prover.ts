import { hexToBytes } from '@noble/hashes/utils.js';
import { toBase64 } from './bytes.ts';
import { merkleLevels, merklePath } from './merkle.ts';
import type { FillSampleIndex, GpuOpenings, PovwChallenge, PovwProfile, WalkSampleIndex } from './messages.ts';
import { dot, fillTweak, prg, q, walkBlock, walkTweak } from './povw-arithmetic.ts';
import {
  blockRootLeaf,
  columnLeaves,
  isSoundBinding,
  isSoundProfile,
  partnerBlock,
  rowLeaf,
  seedOf,
  startKey,
  toHex,
  traceLeaf,
} from './povw-hashes.ts';
import type { FillOpening, RowOpening, TraceOpening, WalkOpening } from './povw-openings.ts';

/** One GPU's side of the proof, in the order commit, walk, open. Holds M·n² + (T + 1)·n·k bytes until dropped. */
export interface Prover {
  /** fills the memory; R as hex */
  commit: () => { root: string };
  /** `nonce2` is 64 hex; D and W as hex */
  walk: (nonce2: string) => { digest: string; trace_root: string };
  open: (samples: { fill: readonly FillSampleIndex[]; walk: readonly WalkSampleIndex[] }) => GpuOpenings;
}

interface Filled {
  blocks: Int8Array[];
  levels: Uint8Array[][][];
  roots: Uint8Array[];
  rootLevels: Uint8Array[][];
}
interface Walked {
  xs: Int8Array[];
  traceLevels: Uint8Array[][];
}

/** The two products of the proof: plain loops here; whatever computes the same integers may take their place. */
export interface ProofEngine {
  /** B_i from B_{i−1} and B_j, row-major */
  multiply: (left: Int8Array, right: Int8Array, block: number, n: number) => Int8Array;
  /** x_step from a block and the x before it, column-major */
  step: (block: Int8Array, x: Int8Array, step: number, n: number, k: number) => Int8Array;
}
export const PLAIN_ENGINE: ProofEngine = { multiply: multiplyBlocks, step: stepOf };

/** Throws when the challenge cannot be computed exactly, or a step comes out of order. */
export function createProver(challenge: PovwChallenge, engine: ProofEngine = PLAIN_ENGINE): Prover {
  if (!isSoundProfile(challenge.profile) || !isSoundBinding(challenge.binding))
    throw new Error('challenge is malformed');
  const { profile } = challenge;
  const seed = seedOf(challenge.binding);
  let filled: Filled | null = null;
  let walked: Walked | null = null;

  const openRow = (fill: Filled, block: number, row: number): RowOpening => {
    const entries = rowOf(at(fill.blocks, block), profile.n, row);
    return {
      data: encode(entries),
      path: merklePath(at(fill.levels, block), row),
      root_path: merklePath(fill.rootLevels, block),
    };
  };

  return {
    commit: () => {
      filled = fillBlocks(seed, profile, engine);
      walked = null;
      return { root: toHex(top(filled.rootLevels)) };
    },
    walk: (nonce2) => {
      if (!filled) throw new Error('walk comes after commit');
      walked = walkBlocks(seed, hexToBytes(nonce2), filled, profile, engine);
      return {
        digest: toHex(at(at(walked.traceLevels, 0), profile.steps)),
        trace_root: toHex(top(walked.traceLevels)),
      };
    },
    open: (samples) => {
      if (!filled || !walked) throw new Error('open comes after walk');
      const [fill, walk] = [filled, walked];
      return {
        fill: samples.fill.map(({ block, row, column }): FillOpening =>
          block < 2
            ? { row: openRow(fill, block, row) }
            : {
                row: openRow(fill, block, row),
                left: openRow(fill, block - 1, row),
                right: openRow(fill, partnerBlock(seed, block, at(fill.roots, block - 1)), column),
              },
        ),
        walk: samples.walk.map(({ step, row, column }): WalkOpening => ({
          from: openTrace(walk, step, column, profile.n, profile.k),
          to: openTrace(walk, step + 1, column, profile.n, profile.k),
          row: openRow(fill, walkBlock(step, profile.blocks), row),
        })),
      };
    },
  };
}

function fillBlocks(seed: Uint8Array, { n, blocks: count }: PovwProfile, engine: ProofEngine): Filled {
  const filled: Filled = { blocks: [], levels: [], roots: [], rootLevels: [] };
  const { blocks, roots } = filled;
  for (let i = 0; i < count; i++) {
    const block =
      i < 2
        ? prg(seed, i * n * n, n * n)
        : engine.multiply(at(blocks, i - 1), at(blocks, partnerBlock(seed, i, at(roots, i - 1))), i, n);
    const levels = merkleLevels(Array.from({ length: n }, (_, r) => rowLeaf(i, r, rowOf(block, n, r))));
    blocks.push(block);
    filled.levels.push(levels);
    roots.push(top(levels));
  }
  filled.rootLevels = merkleLevels(roots.map((root, i) => blockRootLeaf(i, root)));
  return filled;
}

/** B_i = q(B_{i−1}·B_jᵀ): entry (r, c) is row r of one times row c of the other. */
function multiplyBlocks(left: Int8Array, right: Int8Array, block: number, n: number): Int8Array {
  const out = new Int8Array(n * n);
  for (let r = 0; r < n; r++) {
    for (let c = 0; c < n; c++) out[r * n + c] = q(dot(left, r * n, right, c * n, n), fillTweak(block, r, c));
  }
  return out;
}

function walkBlocks(
  seed: Uint8Array,
  nonce2: Uint8Array,
  fill: Filled,
  profile: PovwProfile,
  engine: ProofEngine,
): Walked {
  const { n, k, blocks, steps } = profile;
  const xs = [prg(startKey(seed, nonce2, top(fill.rootLevels)), 0, n * k)];
  const leaves: Uint8Array[] = [];
  for (let t = 0; t <= steps; t++) {
    const x = at(xs, t);
    leaves.push(traceLeaf(t, top(merkleLevels(columnLeaves(t, x, n, k)))));
    if (t < steps) xs.push(engine.step(at(fill.blocks, walkBlock(t, blocks)), x, t + 1, n, k));
  }
  return { xs, traceLevels: merkleLevels(leaves) };
}

function stepOf(block: Int8Array, x: Int8Array, step: number, n: number, k: number): Int8Array {
  const next = new Int8Array(n * k);
  for (let c = 0; c < k; c++) {
    for (let r = 0; r < n; r++) next[c * n + r] = q(dot(block, r * n, x, c * n, n), walkTweak(step, r, c));
  }
  return next;
}

function openTrace(walk: Walked, step: number, column: number, n: number, k: number): TraceOpening {
  const x = at(walk.xs, step);
  return {
    column: encode(x.subarray(column * n, (column + 1) * n)),
    column_path: merklePath(merkleLevels(columnLeaves(step, x, n, k)), column),
    path: merklePath(walk.traceLevels, step),
  };
}

const rowOf = (block: Int8Array, n: number, row: number): Int8Array => block.subarray(row * n, (row + 1) * n);
const encode = (entries: Int8Array): string =>
  toBase64(new Uint8Array(entries.buffer, entries.byteOffset, entries.length));
const top = (levels: readonly Uint8Array[][]): Uint8Array => at(at(levels, levels.length - 1), 0);

function at<T>(list: readonly T[], index: number): T {
  const value = list[index];
  if (value === undefined) throw new Error(`sample index ${index} is out of range`);
  return value;
}
