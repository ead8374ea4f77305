import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { GPU_TYPES } from '../../../workflows/domain/gpus/gpu-table.ts';
import { profilesOf } from './choose-profile.ts';
import { loadProfileTable, parseProfileTable } from './profile-table.ts';
import { createProofSessionActivities } from './proof-session-activities.ts';
import { BEGIN } from './testing/proven.ts';

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'canopy-profiles-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const measured = {
  card: 'NVIDIA H100 PCIe',
  driver: '580.65.06',
  date: '2026-11-21',
  fill_ms: 3012.5,
  walk_step_us: 141.2,
  int8_tops: 905.1,
  copy_gbps: 1890,
  host_gap: 31.4,
};
const row = {
  gpu: 'h100',
  n: 16_384,
  k: 256,
  blocks: 284,
  steps: 100_000,
  fill_samples: 128,
  walk_samples: 128,
  fill_limit_ms: 10_000,
  walk_limit_ms: 20_000,
  measured,
};
const without = (field: keyof typeof row) => Object.fromEntries(Object.entries(row).filter(([name]) => name !== field));

test('the table of the repository has a sound row for every type of the GPU table', async () => {
  const rows = await loadProfileTable();
  expect(rows.map(({ gpu }) => gpu)).toEqual(GPU_TYPES.map(({ ref }) => ref));
});

test.each<[string, unknown[], string[]]>([
  ['a missing field', [without('steps')], ['row 1 (h100), steps:']],
  ['a number as text', [row, { ...row, gpu: 'a100', fill_limit_ms: '9' }], ['row 2 (a100), fill_limit_ms:']],
  ['a limit of zero', [{ ...row, walk_limit_ms: 0 }], ['row 1 (h100), walk_limit_ms:']],
  ['an unknown field', [{ ...row, fill_limit: 1 }], ['row 1 (h100), its fields:']],
  ['a measurement that lacks its date', [{ ...row, measured: { ...measured, date: 'today' } }], ['measured.date:']],
  ['a row that says nothing of being measured', [without('measured')], ['row 1 (h100), measured:']],
  ['too little memory', [{ ...row, blocks: 200 }], ['row 1 (h100), blocks: fill']],
  ['too many samples', [{ ...row, walk_samples: 300 }], ['row 1 (h100), walk_samples: and fill']],
  ['a type twice', [row, row], ['row 2 (h100), gpu: has a row already']],
  ['no object', [7], ['row 1, its fields:']],
  ['all that is wrong at once', [without('n'), { ...row, k: 0 }], ['row 1 (h100), n:', 'row 2 (h100), k:']],
])('%s is named with file, row and field', (_, rows, texts) => {
  for (const text of ['/some/file', ...texts]) expect(() => parseProfileTable({ rows }, '/some/file')).toThrow(text);
});

test('a file that is missing, no JSON, or another thing is named', async () => {
  await expect(loadProfileTable(join(dir, 'missing.json'))).rejects.toThrow('missing.json');
  const file = join(dir, 'table.json');
  await writeFile(file, '{');
  await expect(loadProfileTable(file)).rejects.toThrow('table.json is not a readable JSON file');
  await writeFile(file, '[]');
  await expect(loadProfileTable(file)).rejects.toThrow('table.json is not {"rows"');
  await writeFile(file, JSON.stringify({ rows: [row] }));
  expect(await loadProfileTable(file)).toMatchObject([
    { gpu: 'h100', walkLimitMs: 20_000, measured: { hostGap: 31.4 } },
  ]);
});

test('plug-in povw proves with the row of its type, or refuses with what can be done; simulated claims no memory', async () => {
  const begin = (rows: unknown[], plugin: 'povw' | 'simulated' = 'povw') =>
    createProofSessionActivities({
      profileFor: profilesOf({ rows: parseProfileTable({ rows }, 'f'), allowsUnmeasured: false }),
    }).beginProof({ ...BEGIN, plugin });
  const { plugin, challenges, deadlineMs } = await begin([row]);
  expect([plugin, ...challenges.map(({ profile }) => profile)]).toEqual([
    'povw',
    ...BEGIN.gpus.map(() => expect.objectContaining({ name: 'h100', blocks: 284, walkLimitMs: 20_000 })),
  ]);
  expect(deadlineMs).toBeGreaterThan(30_000);
  for (const rows of [[], [{ ...row, measured: null }]])
    await expect(begin(rows)).rejects.toMatchObject({
      code: 'request.invalid',
      message: expect.stringContaining('npm run calibrate:gpu -- --type h100'),
    });
  expect((await begin([], 'simulated')).challenges[0]?.profile.name).toBe('cpu-dev');
});
