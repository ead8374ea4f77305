import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js';
import { concatBytes, fromBase64, isHash, toBase64 } from './bytes.ts';
import { rootFromPath } from './merkle.ts';
import type { FillSampleIndex, GpuOpenings, PovwProfile, WalkSampleIndex } from './messages.ts';
import { walkBlock } from './povw-arithmetic.ts';
import { partnerBlock, rowLeaf } from './povw-hashes.ts';
import type { RowOpening, TraceOpening } from './povw-openings.ts';

/**
 * The same openings without JSON, as `graval` reads and writes them (docs/proof.md "Binary openings"). No lengths inside:
 * each part's size follows from profile, samples and the blocks that earlier parts lead to. Both ways are exact: what one
 * form's verifier accepts, the other's does too. Openings that have no other form come out as null, never as a throw.
 */
export interface OpenedBy {
  profile: Pick<PovwProfile, 'n' | 'k' | 'blocks' | 'steps'>;
  /** S, 32 bytes */
  seed: Uint8Array;
  /** drawn by the validator, hence in range */
  samples: { fill: readonly FillSampleIndex[]; walk: readonly WalkSampleIndex[] };
}

/** Walks over all parts in their order; `Form` says how one part is read and what is made of it. */
interface Form {
  row: (place: 'row' | 'left' | 'right', block: number, row: number) => Uint8Array | null;
  trace: (place: 'from' | 'to', step: number, column: number) => Uint8Array | null;
  next: (list: 'fill' | 'walk', index: number) => void;
}

/** Calls `form` for every part, working out the blocks that only the parts before it tell. False: a part has no other form. */
function visitParts({ profile, seed, samples }: OpenedBy, form: Form): boolean {
  const { n, blocks } = profile;
  for (const [index, { block, row, column }] of samples.fill.entries()) {
    form.next('fill', index);
    if (!form.row('row', block, row)) return false;
    if (block < 2) continue;
    const left = form.row('left', block - 1, row);
    const root = left && blockRootOf(left, block - 1, row, n);
    if (!root || !form.row('right', partnerBlock(seed, block, root), column)) return false;
  }
  for (const [index, { step, row, column }] of samples.walk.entries()) {
    form.next('walk', index);
    if (!form.trace('from', step, column) || !form.trace('to', step + 1, column)) return false;
    if (!form.row('row', walkBlock(step, blocks), row)) return false;
  }
  return true;
}

function blockRootOf(opening: Uint8Array, block: number, row: number, n: number): Uint8Array | null {
  const path = hashesAt(opening, n, pathLength(row, n));
  return rootFromPath(rowLeaf(block, row, new Int8Array(opening.slice(0, n).buffer)), row, n, path);
}

export function openingsToBinary(by: OpenedBy, openings: unknown): Uint8Array | null {
  const { n, k, blocks, steps } = by.profile;
  const lists = fieldsOf(openings);
  if (!isListOf(lists.fill, by.samples.fill.length) || !isListOf(lists.walk, by.samples.walk.length)) return null;
  const parts: Uint8Array[] = [];
  let opening: Partial<Record<string, unknown>> = {};
  const push = (...pieces: (Uint8Array | null)[]): Uint8Array | null => {
    const known = pieces.filter((piece) => piece !== null);
    if (known.length !== pieces.length) return null;
    const part = concatBytes(...known);
    parts.push(part);
    return part;
  };
  const whole = visitParts(by, {
    next: (list, index) => void (opening = fieldsOf((lists[list] as unknown[])[index])),
    row: (place, block, row) => {
      const { data, path, root_path: rootPath } = fieldsOf(opening[place]);
      return push(
        fromBase64(data, n),
        pathBytes(path, pathLength(row, n)),
        pathBytes(rootPath, pathLength(block, blocks)),
      );
    },
    trace: (place, step, column) => {
      const { column: data, column_path: columnPath, path } = fieldsOf(opening[place]);
      return push(
        fromBase64(data, n),
        pathBytes(columnPath, pathLength(column, k)),
        pathBytes(path, pathLength(step, steps + 1)),
      );
    },
  });
  return whole ? concatBytes(...parts) : null;
}

export function openingsFromBinary(by: OpenedBy, bytes: Uint8Array): GpuOpenings | null {
  const { n, k, blocks, steps } = by.profile;
  const openings: { fill: Record<string, unknown>[]; walk: Record<string, unknown>[] } = { fill: [], walk: [] };
  let opening: Record<string, unknown> = {};
  let at = 0;
  const take = (length: number): Uint8Array | null => {
    if (at + length > bytes.length) return null;
    at += length;
    return bytes.subarray(at - length, at);
  };
  const whole = visitParts(by, {
    next: (list) => void openings[list].push((opening = {})),
    row: (place, block, row) => {
      const [inBlock, inRoot] = [pathLength(row, n), pathLength(block, blocks)];
      const part = take(n + 32 * (inBlock + inRoot));
      if (!part) return null;
      opening[place] = {
        data: toBase64(part.subarray(0, n)),
        path: hashesAt(part, n, inBlock),
        root_path: hashesAt(part, n + 32 * inBlock, inRoot),
      } satisfies RowOpening;
      return part;
    },
    trace: (place, step, column) => {
      const [inColumns, inTrace] = [pathLength(column, k), pathLength(step, steps + 1)];
      const part = take(n + 32 * (inColumns + inTrace));
      if (!part) return null;
      opening[place] = {
        column: toBase64(part.subarray(0, n)),
        column_path: hashesAt(part, n, inColumns),
        path: hashesAt(part, n + 32 * inColumns, inTrace),
      } satisfies TraceOpening;
      return part;
    },
  });
  // every field was set by visitParts, in the shapes above
  return whole && at === bytes.length ? (openings as unknown as GpuOpenings) : null;
}

/** Number of siblings on the path of leaf `index` of `count`. */
function pathLength(index: number, count: number): number {
  let length = 0;
  let at = index;
  for (let width = count; width > 1; width = (width + 1) >> 1) {
    if ((at ^ 1) < width) length++;
    at >>= 1;
  }
  return length;
}

function pathBytes(path: unknown, length: number): Uint8Array | null {
  if (!isListOf(path, length) || !path.every(isHash)) return null;
  return concatBytes(...path.map((hash) => hexToBytes(hash)));
}
const hashesAt = (bytes: Uint8Array, at: number, count: number): string[] =>
  Array.from({ length: count }, (_, index) => bytesToHex(bytes.subarray(at + 32 * index, at + 32 * (index + 1))));

const fieldsOf = (value: unknown): Partial<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? value : {};
const isListOf = (value: unknown, length: number): value is unknown[] =>
  Array.isArray(value) && value.length === length;
