import { readFile } from 'node:fs/promises';
import { expect, test } from '@jest/globals';
import {
  parseProfileTable,
  PROFILES_FILE,
  type ProfileRowWire,
} from '../../activities/validator/proof/profile-table.ts';
import { fillProfileTable, renderProfileTable, rowFromDataSheet } from './write-povw-profiles.ts';

const measured = {
  card: 'NVIDIA L4',
  driver: '580',
  date: '2026-11-21',
  fill_ms: 1,
  walk_step_us: 1,
  int8_tops: 1,
  copy_gbps: 1,
  host_gap: 1,
};

test('the file in the repository is what the generator writes over it', async () => {
  const text = await readFile(PROFILES_FILE, 'utf8');
  expect(renderProfileTable(fillProfileTable((JSON.parse(text) as { rows: ProfileRowWire[] }).rows))).toBe(text);
});

test('a measured row is never overwritten, an unmeasured one is, and every row is sound', () => {
  const [first] = fillProfileTable([]);
  if (!first) throw new Error('no row');
  const mine = { ...first, gpu: 'l4', blocks: 999, measured };
  const stale = { ...first, gpu: 'a10', steps: 1 };
  const rows = fillProfileTable([stale, mine]);
  expect(rows.find(({ gpu }) => gpu === 'l4')).toBe(mine);
  expect(rows.find(({ gpu }) => gpu === 'a10')?.steps).toBeGreaterThan(1);
  expect(parseProfileTable({ rows }, 'table')).toHaveLength(rows.length);
});

test.each([
  [16, 448, 153.4, { n: 8192, k: 128, blocks: 227 }],
  [48, 864, 733, { n: 8192, k: 384, blocks: 680 }],
  [80, 3350, 1979, { n: 16_384, k: 256, blocks: 284 }],
  [96, 4000, 296, { n: 16_384, k: 64, blocks: 340 }], // balance at 37: never narrower than a tile
])('%d GB at %d GB/s and %d TOPS', (memoryGb, memoryGbps, int8Tops, sizes) => {
  const row = rowFromDataSheet({ ref: 'h100', memoryGb }, { memoryGbps, int8Tops });
  expect(row).toMatchObject(sizes);
  const walkS = (row.steps * row.n ** 2) / (0.6 * memoryGbps * 1e9);
  expect(walkS).toBeGreaterThan(14.5);
  expect(walkS).toBeLessThan(15.5);
});
