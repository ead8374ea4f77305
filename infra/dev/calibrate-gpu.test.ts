import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { loadProfileTable, PROFILES_FILE } from '../../activities/validator/proof/profile-table.ts';
import { calibrateGpu } from './calibrate-gpu.ts';

/** The command beside the card: a stand-in for `graval` says what a card would. What a real one measures is gpu/test's. */
let dir: string;
let file: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'calibrate-'));
  file = join(dir, 'profiles.json');
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const H100 = {
  index: 0,
  name: 'NVIDIA H100 80GB HBM3',
  uuid: 'ab'.repeat(16),
  memory_bytes: 85_000_000_000,
  processors: 132,
  clock_khz: 1_980_000,
  major: 9,
  minor: 0,
  max_threads_per_processor: 2048,
};
const ROW = {
  gpu: 'h100_sxm',
  n: 16_384,
  k: 128,
  blocks: 284,
  steps: 150_000,
  fill_samples: 128,
  walk_samples: 128,
  fill_limit_ms: 6000,
  walk_limit_ms: 18_750,
  measured: {
    card: H100.name,
    driver: '580.65',
    date: '2030-01-02',
    fill_ms: 4000,
    walk_step_us: 100,
    int8_tops: 620,
    copy_gbps: 2900,
    host_gap: 48,
  },
};

/** A program that answers `info` and `bench`, and notes what it was asked. */
async function standIn(devices: object[], row: object = ROW): Promise<() => Promise<string>> {
  const path = join(dir, 'graval');
  const info = JSON.stringify({ proof_version: 'povw/2', cuda: true, devices });
  await writeFile(
    path,
    `#!/bin/sh\necho "$@" >> ${dir}/asked\n[ "$1" = info ] && echo '${info}' || echo '${JSON.stringify(row)}'\n`,
  );
  await chmod(path, 0o755);
  return () => Promise.resolve(path);
}

test('a measured row is added to a new file, and takes the place of the guess in the one that comes with the program', async () => {
  const graval = await standIn([H100]);
  expect(await calibrateGpu({ type: 'H100_SXM', device: 0, graval, file })).toEqual(ROW);
  expect(JSON.parse(await readFile(file, 'utf8'))).toEqual({ rows: [ROW] });
  expect(await readFile(join(dir, 'asked'), 'utf8')).toBe(
    'info --json\nbench --calibrate --type h100_sxm --device 0 --vram-bytes 80000000000\n',
  );
  await writeFile(file, await readFile(PROFILES_FILE));
  const before = await loadProfileTable(file);
  await calibrateGpu({ type: 'h100_sxm', device: 0, graval, file });
  await calibrateGpu({ type: 'h100_sxm', device: 0, graval, file });
  const after = await loadProfileTable(file);
  expect(after.map(({ gpu }) => gpu)).toEqual(before.map(({ gpu }) => gpu));
  expect(after.filter((row, at) => JSON.stringify(row) !== JSON.stringify(before[at]))).toMatchObject([
    { gpu: 'h100_sxm', k: 128, measured: { date: '2030-01-02', hostGap: 48 } },
  ]);
});

test.each<[string, { type?: string; device?: number; devices?: object[]; row?: object }, string]>([
  ['a type nobody sells', { type: 'h1000' }, 'h1000 is no GPU type; one of: 3090 4090'],
  ['a machine without a GPU', { devices: [] }, 'No NVIDIA GPU here'],
  ['a device that is not there', { device: 3 }, 'there is no device 3, only 0'],
  ['another card than the type', { type: 'a100_sxm' }, 'device 0 is a NVIDIA H100 80GB HBM3'],
  ['a row that fills too little', { row: { ...ROW, blocks: 200 } }, 'less than 95 %'],
  ['a row without its measurements', { row: { ...ROW, measured: { card: 'H100' } } }, 'measured.driver'],
  ['a row for another type', { row: { ...ROW, gpu: 'a100' } }, 'a row for a100'],
])('%s is refused in words, and the table stays as it is', async (_name, given, message) => {
  await writeFile(file, '{"rows":[]}');
  const graval = await standIn(given.devices ?? [H100], given.row);
  const asked = calibrateGpu({ type: given.type ?? 'h100_sxm', device: given.device ?? 0, graval, file });
  await expect(asked).rejects.toThrow(message);
  expect(await readFile(file, 'utf8')).toBe('{"rows":[]}');
});

test('a table that cannot be read is not written over', async () => {
  await writeFile(file, '{"rows":');
  const graval = await standIn([H100]);
  await expect(calibrateGpu({ type: 'h100_sxm', device: 0, graval, file })).rejects.toThrow();
  expect(await readFile(file, 'utf8')).toBe('{"rows":');
});
