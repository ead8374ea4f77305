import { hexToBytes } from '@noble/hashes/utils.js';
import { equalBytes, fromBase64, isHash } from './bytes.ts';
import { merkleRoot, rootFromPath } from './merkle.ts';
import type { FillSampleIndex, GpuVerdict, PovwChallenge, PovwProfile, WalkSampleIndex } from './messages.ts';
import { dot, fillTweak, prg, q, walkBlock, walkTweak } from './povw-arithmetic.ts';
import {
  blockRootLeaf,
  columnLeaf,
  columnLeaves,
  isSoundBinding,
  isSoundProfile,
  partnerBlock,
  rowLeaf,
  seedOf,
  startKey,
  traceLeaf,
} from './povw-hashes.ts';

/** Why a GPU's proof is refused; each is explained in docs/proof.md. */
export type ProofFault =
  | 'challenge_malformed'
  | 'root_malformed'
  | 'nonce_malformed'
  | 'walk_malformed'
  | 'samples_malformed'
  | 'openings_malformed'
  | 'fill_row_not_committed'
  | 'fill_seed_block_differs'
  | 'fill_entry_differs'
  | 'walk_leaf_not_committed'
  | 'walk_start_differs'
  | 'walk_digest_differs'
  | 'walk_row_not_committed'
  | 'walk_entry_differs';

export interface VerifyOpenings {
  challenge: PovwChallenge;
  /** R as committed */
  root: unknown;
  nonce2: unknown;
  walk: unknown;
  /** drawn by the validator */
  samples: { fill: readonly FillSampleIndex[]; walk: readonly WalkSampleIndex[] };
  openings: unknown;
}

/** What does not change from sample to sample. */
interface Context {
  profile: PovwProfile;
  seed: Uint8Array;
  root: Uint8Array;
  nonce2: Uint8Array;
  digest: Uint8Array;
  traceRoot: Uint8Array;
}

/** Recomputes what the openings claim. Total: whatever the input, the answer is a verdict, in time bounded by the profile. */
export function verifyOpenings(input: VerifyOpenings): GpuVerdict {
  const gpuUuid = input.challenge.binding.gpuUuid;
  const fault = firstFault(input);
  if (fault) return { gpuUuid, verified: false, reason: fault };
  return { gpuUuid, verified: true, samplesChecked: input.samples.fill.length + input.samples.walk.length };
}

function firstFault({ challenge, root, nonce2, walk, samples, openings }: VerifyOpenings): ProofFault | null {
  const { profile, binding } = challenge;
  if (!isSoundProfile(profile) || !isSoundBinding(binding)) return 'challenge_malformed';
  if (!isHash(root)) return 'root_malformed';
  if (!isHash(nonce2)) return 'nonce_malformed';
  const { digest, trace_root: traceRoot } = fieldsOf(walk);
  if (!isHash(digest) || !isHash(traceRoot)) return 'walk_malformed';
  if (!areSoundSamples(profile, samples)) return 'samples_malformed';
  const { fill: fillOpenings, walk: walkOpenings } = fieldsOf(openings);
  if (!isListOf(fillOpenings, samples.fill.length) || !isListOf(walkOpenings, samples.walk.length))
    return 'openings_malformed';
  const context: Context = {
    profile,
    seed: seedOf(binding),
    root: hexToBytes(root),
    nonce2: hexToBytes(nonce2),
    digest: hexToBytes(digest),
    traceRoot: hexToBytes(traceRoot),
  };
  for (const [index, sample] of samples.fill.entries()) {
    const fault = fillFault(context, sample, fillOpenings[index]);
    if (fault) return fault;
  }
  for (const [index, sample] of samples.walk.entries()) {
    const fault = walkFault(context, sample, walkOpenings[index]);
    if (fault) return fault;
  }
  return null;
}

function fillFault(context: Context, { block, row, column }: FillSampleIndex, opening: unknown): ProofFault | null {
  const { n } = context.profile;
  const fields = fieldsOf(opening);
  const opened = openRow(context, block, row, fields.row);
  if (!opened) return 'fill_row_not_committed';
  if (block < 2) {
    const drawn = prg(context.seed, block * n * n + row * n, n);
    return drawn.every((entry, at) => entry === opened.entries[at]) ? null : 'fill_seed_block_differs';
  }
  const left = openRow(context, block - 1, row, fields.left);
  if (!left) return 'fill_row_not_committed';
  const right = openRow(context, partnerBlock(context.seed, block, left.blockRoot), column, fields.right);
  if (!right) return 'fill_row_not_committed';
  const entry = q(dot(left.entries, 0, right.entries, 0, n), fillTweak(block, row, column));
  return entry === opened.entries[column] ? null : 'fill_entry_differs';
}

function walkFault(context: Context, { step, row, column }: WalkSampleIndex, opening: unknown): ProofFault | null {
  const { n, blocks, steps } = context.profile;
  const fields = fieldsOf(opening);
  const from = openTrace(context, step, column, fields.from);
  const to = openTrace(context, step + 1, column, fields.to);
  if (!from || !to) return 'walk_leaf_not_committed';
  if (step === 0 && !equalBytes(from.leaf, startLeaf(context))) return 'walk_start_differs';
  if (step + 1 === steps && !equalBytes(to.leaf, context.digest)) return 'walk_digest_differs';
  const opened = openRow(context, walkBlock(step, blocks), row, fields.row);
  if (!opened) return 'walk_row_not_committed';
  const entry = q(dot(opened.entries, 0, from.entries, 0, n), walkTweak(step + 1, row, column));
  return entry === to.entries[row] ? null : 'walk_entry_differs';
}

/** Row `row` of `block` when its path leads to R; with the block's root, which later hashes build on. */
function openRow(
  context: Context,
  block: number,
  row: number,
  opening: unknown,
): { entries: Int8Array; blockRoot: Uint8Array } | null {
  const { n, blocks } = context.profile;
  const fields = fieldsOf(opening);
  const entries = entriesOf(fields.data, n);
  if (!entries) return null;
  const blockRoot = rootFromPath(rowLeaf(block, row, entries), row, n, fields.path);
  if (!blockRoot) return null;
  const root = rootFromPath(blockRootLeaf(block, blockRoot), block, blocks, fields.root_path);
  return root && equalBytes(root, context.root) ? { entries, blockRoot } : null;
}

/** Trace leaf `step` and its column `column` when their paths lead to W. */
function openTrace(
  context: Context,
  step: number,
  column: number,
  opening: unknown,
): { entries: Int8Array; leaf: Uint8Array } | null {
  const { n, k, steps } = context.profile;
  const fields = fieldsOf(opening);
  const entries = entriesOf(fields.column, n);
  if (!entries) return null;
  const columnsRoot = rootFromPath(columnLeaf(step, column, entries), column, k, fields.column_path);
  if (!columnsRoot) return null;
  const leaf = traceLeaf(step, columnsRoot);
  const root = rootFromPath(leaf, step, steps + 1, fields.path);
  return root && equalBytes(root, context.traceRoot) ? { entries, leaf } : null;
}

/** Trace leaf 0 as the challenge demands it: every column of x₀, not only the sampled one. */
function startLeaf({ profile: { n, k }, seed, nonce2, root }: Context): Uint8Array {
  const x = prg(startKey(seed, nonce2, root), 0, n * k);
  return traceLeaf(0, merkleRoot(columnLeaves(0, x, n, k)));
}

/** Exactly n int8 values without −128, or null. */
function entriesOf(data: unknown, n: number): Int8Array | null {
  const bytes = fromBase64(data, n);
  if (!bytes || bytes.includes(128)) return null;
  return new Int8Array(bytes.buffer);
}

export function areSoundSamples(profile: PovwProfile, samples: VerifyOpenings['samples']): boolean {
  const within = (value: number, limit: number) => Number.isSafeInteger(value) && value >= 0 && value < limit;
  const { n, k, blocks, steps, fillSamples, walkSamples } = profile;
  return (
    samples.fill.length === fillSamples &&
    samples.walk.length === walkSamples &&
    samples.fill.every(({ block, row, column }) => within(block, blocks) && within(row, n) && within(column, n)) &&
    samples.walk.every(({ step, row, column }) => within(step, steps) && within(row, n) && within(column, k)) &&
    [0, steps - 1].every((end) => samples.walk.some(({ step }) => step === end))
  );
}

const fieldsOf = (value: unknown): Partial<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? value : {};
const isListOf = (value: unknown, length: number): value is unknown[] =>
  Array.isArray(value) && value.length === length;
