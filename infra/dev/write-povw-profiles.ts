import { readFile, writeFile } from 'node:fs/promises';
import {
  parseProfileTable,
  PROFILES_FILE,
  type ProfileRowWire,
} from '../../activities/validator/proof/profile-table.ts';
import { GPU_TYPES, type GpuType } from '../../workflows/domain/gpus/gpu-table.ts';
import { FILLED_SHARE } from '../../workflows/domain/proof/profile-rows.ts';

/**
 * `node infra/dev/write-povw-profiles.ts` writes the rows of gpu/profiles.json that no card was measured for, from public data
 * sheets; a measured row stays as it is. Such a row is a first guess for a development network: production refuses it.
 */
interface DataSheet {
  int8Tops: number;
  memoryGbps: number;
}

/** Dense int8 rate, 10¹² operations a second, and memory bandwidth, GB/s. Of several cards under one name, the slowest. */
// oxfmt-ignore
const DATA_SHEETS: Record<string, DataSheet> = {
  '3090': { int8Tops: 284, memoryGbps: 936 },
  '4090': { int8Tops: 660.6, memoryGbps: 1008 },
  '5090': { int8Tops: 838, memoryGbps: 1792 },
  a4000: { int8Tops: 153.4, memoryGbps: 448 },
  a4000_ada: { int8Tops: 163.8, memoryGbps: 360 },
  a5000: { int8Tops: 222.2, memoryGbps: 768 },
  a6000: { int8Tops: 309.7, memoryGbps: 768 },
  a6000_ada: { int8Tops: 728.5, memoryGbps: 960 },
  pro_6000: { int8Tops: 877, memoryGbps: 1597 }, // Max-Q's rate, Server Edition's memory
  l4: { int8Tops: 242.5, memoryGbps: 300 },
  a10: { int8Tops: 250, memoryGbps: 600 },
  a40: { int8Tops: 299.3, memoryGbps: 696 },
  l40: { int8Tops: 362, memoryGbps: 864 },
  l40s: { int8Tops: 733, memoryGbps: 864 },
  a100_40gb: { int8Tops: 624, memoryGbps: 1555 },
  a100_40gb_sxm: { int8Tops: 624, memoryGbps: 1555 },
  a100: { int8Tops: 624, memoryGbps: 1935 },
  a100_sxm: { int8Tops: 624, memoryGbps: 2039 },
  h100: { int8Tops: 1513, memoryGbps: 2000 },
  h100_nvl: { int8Tops: 1671, memoryGbps: 3900 },
  h100_sxm: { int8Tops: 1979, memoryGbps: 3350 },
  h800: { int8Tops: 1513, memoryGbps: 2000 },
  h20: { int8Tops: 296, memoryGbps: 4000 },
  h200: { int8Tops: 1671, memoryGbps: 4800 }, // H200 NVL's rate
  mi300x: { int8Tops: 2614.9, memoryGbps: 5300 },
  b200: { int8Tops: 4500, memoryGbps: 8000 },
};

/** Shares of the data sheet's rates that a guess counts on, and what a limit allows on top of the guess. */
const FILL_EFFICIENCY = 0.4;
const WALK_EFFICIENCY = 0.6;
const LIMIT = 1.25;
/** Memory is taken, and answers travel. */
const FILL_MARGIN_MS = 5000;
const WALK_MARGIN_MS = 1000;
const WALK_S = 15;
const SAMPLES = 128;

/** k is where the products take as long as reading the block, rounded down to a multiple of 64: past it a step is no test of memory. */
export function rowFromDataSheet(
  { ref, memoryGb }: Pick<GpuType, 'ref' | 'memoryGb'>,
  sheet: DataSheet,
): ProfileRowWire {
  const { int8Tops, memoryGbps } = sheet;
  const n = memoryGb <= 48 ? 8192 : 16_384;
  const blocks = Math.ceil((FILLED_SHARE * memoryGb * 1e9) / n ** 2);
  const balance = (int8Tops * 1e12) / (2 * memoryGbps * 1e9);
  const fillMs = (blocks * 2 * n ** 3) / (FILL_EFFICIENCY * int8Tops * 1e9);
  const stepMs = n ** 2 / (WALK_EFFICIENCY * memoryGbps * 1e6);
  const steps = Math.round((WALK_S * 1000) / stepMs / 1000) * 1000;
  return {
    gpu: ref,
    n,
    k: Math.max(64, Math.floor(balance / 64) * 64),
    blocks,
    steps,
    fill_samples: SAMPLES,
    walk_samples: SAMPLES,
    fill_limit_ms: Math.ceil(LIMIT * fillMs + FILL_MARGIN_MS),
    walk_limit_ms: Math.ceil(LIMIT * steps * stepMs + WALK_MARGIN_MS),
    measured: null,
    data_sheet: { int8_tops: int8Tops, memory_gbps: memoryGbps },
  };
}

/** All types of the GPU table in its order: `measured` rows as they are, the others from their data sheets. */
export function fillProfileTable(measured: readonly ProfileRowWire[]): ProfileRowWire[] {
  return GPU_TYPES.flatMap((type) => {
    const kept = measured.find((row) => row.gpu === type.ref && row.measured !== null);
    const sheet = DATA_SHEETS[type.ref];
    return kept ?? (sheet ? rowFromDataSheet(type, sheet) : []);
  });
}

/** The file's text. */
export const renderProfileTable = (rows: readonly ProfileRowWire[]): string => `${JSON.stringify({ rows }, null, 2)}\n`;

async function readRows(): Promise<ProfileRowWire[]> {
  try {
    return (JSON.parse(await readFile(PROFILES_FILE, 'utf8')) as { rows: ProfileRowWire[] }).rows;
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw err;
  }
}

if (import.meta.main) {
  const rows = fillProfileTable(await readRows());
  parseProfileTable({ rows }, PROFILES_FILE); // nothing is written that could not be read
  await writeFile(PROFILES_FILE, renderProfileTable(rows));
  process.stdout.write(
    `${rows.length} rows, ${rows.filter((row) => row.measured).length} measured: ${PROFILES_FILE}\n`,
  );
}
