import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { rowFault, type ProfileRow } from '../../../workflows/domain/proof/profile-rows.ts';

/** The table that comes with the program; images carry it too. */
export const PROFILES_FILE = join(import.meta.dirname, '../../../gpu/profiles.json');

const count = z.int().min(1);
const rate = z.number().positive();
const measured = z.object({
  card: z.string().min(1),
  driver: z.string().min(1),
  date: z.iso.date(),
  fill_ms: rate,
  walk_step_us: rate,
  int8_tops: rate,
  copy_gbps: rate,
  host_gap: rate,
});
const row = z.strictObject({
  gpu: z.string(),
  n: count,
  k: count,
  blocks: count,
  steps: count,
  fill_samples: count,
  walk_samples: count,
  fill_limit_ms: count,
  walk_limit_ms: count,
  measured: measured.nullable(),
  /** where an unmeasured row comes from: dense int8 rate, 10¹² operations a second, and memory bandwidth */
  data_sheet: z.object({ int8_tops: rate, memory_gbps: rate }).optional(),
});
const table = z.object({ rows: z.array(z.unknown()) });
export type ProfileRowWire = z.output<typeof row>;

/** Every row checked; throws one Error that names file, row and field of all that is wrong. */
export async function loadProfileTable(file = PROFILES_FILE): Promise<ProfileRow[]> {
  let given: unknown;
  try {
    given = JSON.parse(await readFile(file, 'utf8'));
  } catch (err) {
    throw new Error(`${file} is not a readable JSON file`, { cause: err });
  }
  return parseProfileTable(given, file);
}

export function parseProfileTable(given: unknown, file: string): ProfileRow[] {
  const { data } = table.safeParse(given);
  if (!data) throw new Error(`${file} is not {"rows": […]}`);
  const problems: string[] = [];
  const rows: ProfileRow[] = [];
  for (const [index, each] of data.rows.entries()) {
    const result = row.safeParse(each);
    const named = `row ${index + 1}${nameOf(each)}`;
    if (!result.success) {
      for (const { path, message } of result.error.issues)
        problems.push(`${named}, ${path.length > 0 ? path.join('.') : 'its fields'}: ${message}`);
      continue;
    }
    const parsed = rowOf(result.data);
    const fault = rowFault(parsed);
    if (fault) problems.push(`${named}, ${WIRE_NAMES[fault.field] ?? fault.field}: ${fault.detail}`);
    if (rows.some(({ gpu }) => gpu === parsed.gpu)) problems.push(`${named}, gpu: has a row already`);
    rows.push(parsed);
  }
  if (problems.length > 0) throw new Error(`${file} is not usable:\n  ${problems.join('\n  ')}`);
  return rows;
}

const WIRE_NAMES: Partial<Record<keyof ProfileRow, keyof ProfileRowWire>> = { walkSamples: 'walk_samples' };
const named = z.object({ gpu: z.string() });
function nameOf(given: unknown): string {
  const gpu = named.safeParse(given).data?.gpu;
  return gpu === undefined ? '' : ` (${gpu})`;
}

const rowOf = (wire: ProfileRowWire): ProfileRow => ({
  gpu: wire.gpu,
  n: wire.n,
  k: wire.k,
  blocks: wire.blocks,
  steps: wire.steps,
  fillSamples: wire.fill_samples,
  walkSamples: wire.walk_samples,
  fillLimitMs: wire.fill_limit_ms,
  walkLimitMs: wire.walk_limit_ms,
  measured: wire.measured && {
    card: wire.measured.card,
    driver: wire.measured.driver,
    date: wire.measured.date,
    fillMs: wire.measured.fill_ms,
    walkStepUs: wire.measured.walk_step_us,
    int8Tops: wire.measured.int8_tops,
    copyGbps: wire.measured.copy_gbps,
    hostGap: wire.measured.host_gap,
  },
});
