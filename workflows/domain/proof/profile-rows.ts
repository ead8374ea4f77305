import { gpuType } from '../gpus/gpu-table.ts';
import type { PovwProfile } from './messages.ts';
import { MAX_OPENINGS_BYTES } from './plugin.ts';
import { isSoundProfile } from './povw-hashes.ts';

/** One row of gpu/profiles.json: how plug-in `povw` proves a GPU type. `measured` is null until a card was calibrated. */
export interface ProfileRow extends Omit<PovwProfile, 'name'> {
  /** ref of the GPU table */
  gpu: string;
  measured: MeasuredCard | null;
}
/** Rates in 10¹² int8 operations and 10⁹ bytes a second; `hostGap`: step from host memory over a local one. */
export interface MeasuredCard {
  card: string;
  driver: string;
  date: string;
  fillMs: number;
  walkStepUs: number;
  int8Tops: number;
  copyGbps: number;
  hostGap: number;
}

export type ProfileChoice = { kind: 'usable'; profile: PovwProfile } | { kind: 'unusable'; detail: string };
/** A field of a row, or the row as a whole, and what is wrong with it. */
export interface RowFault {
  field: keyof ProfileRow;
  detail: string;
}

/** What share of the memory a type sells must be filled. */
export const FILLED_SHARE = 0.95;

/** The profile a GPU of this type proves with, or the text its miner and its validator's operator are told. */
export function chooseProfile(
  rows: readonly ProfileRow[],
  type: string,
  { allowsUnmeasured }: { allowsUnmeasured: boolean },
): ProfileChoice {
  const row = rows.find(({ gpu }) => gpu === type);
  const remedy = `the validator's operator measures a card with: npm run calibrate:gpu -- --type ${type}`;
  if (!row) return { kind: 'unusable', detail: `GPU type ${type} has no proof profile; ${remedy}` };
  if (!row.measured && !allowsUnmeasured)
    return { kind: 'unusable', detail: `the proof profile of GPU type ${type} was never measured; ${remedy}` };
  const { gpu, measured: _measured, ...sizes } = row;
  return { kind: 'usable', profile: { name: gpu, ...sizes } };
}

/** What keeps a row from proving what its type sells; null when nothing does. */
export function rowFault(row: ProfileRow): RowFault | null {
  const { n, blocks, steps, measured: _measured, gpu, ...rest } = row;
  const type = gpuType(gpu);
  if (!type || type.ref !== gpu) return { field: 'gpu', detail: 'is not a ref of the GPU table' };
  if (!isSoundProfile({ name: gpu, n, blocks, steps, ...rest }))
    return { field: 'n', detail: 'with k, blocks, steps and samples is outside the bounds of the proof' };
  const soldBytes = type.memoryGb * 1e9;
  if (blocks * n ** 2 < FILLED_SHARE * soldBytes)
    return { field: 'blocks', detail: `fill ${blocks * n ** 2} bytes, less than 95 % of ${soldBytes}` };
  if (steps < blocks) return { field: 'steps', detail: `never reach the last of ${blocks} blocks` };
  const openingsBytes = openingsBytesAtMost(row);
  if (openingsBytes > MAX_OPENINGS_BYTES)
    return {
      field: 'walkSamples',
      detail: `and fill samples make ${openingsBytes} bytes of openings, more than ${MAX_OPENINGS_BYTES}`,
    };
  return null;
}

/** Binary openings with every path at its longest (docs/proof.md "Binary openings"): what one GPU of this profile may send. */
export function openingsBytesAtMost({
  n,
  k,
  blocks,
  steps,
  fillSamples,
  walkSamples,
}: Omit<PovwProfile, 'name' | 'fillLimitMs' | 'walkLimitMs'>): number {
  const path = (leaves: number): number => 32 * Math.ceil(Math.log2(leaves));
  const row = n + path(n) + path(blocks);
  const trace = n + path(k) + path(steps + 1);
  return fillSamples * 3 * row + walkSamples * (2 * trace + row);
}
