import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { buildGpu } from './build-gpu.ts';

/** The native tests (gpu/test) in both builds. Built outside the checkout, so that nothing old can pass. */
const run = promisify(execFile);
const SOURCES = join(import.meta.dirname, '../../gpu');
let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), 'canopy-gpu-'));
});
afterAll(() => rm(work, { recursive: true, force: true }));

async function build(name: string, option: string): Promise<string> {
  const dir = join(work, name);
  await run('cmake', ['-S', SOURCES, '-B', dir, option]);
  await run('cmake', ['--build', dir, '--parallel', '2'], { maxBuffer: 64 * 1024 ** 2 });
  return dir;
}
const ctest = async (dir: string, ...args: string[]): Promise<string> =>
  (await run('ctest', ['--test-dir', dir, '--output-on-failure', ...args], { maxBuffer: 64 * 1024 ** 2 })).stdout;

test('vectors, every changed byte, the self-test, and the CUDA sources on the emulator', async () => {
  const output = await ctest(await build('release', '-DGRAVAL_SANITIZE=OFF'), '-LE', 'fuzz');
  expect(output).toMatch(/emulated \.+ +Passed/);
  expect(output).toContain('100% tests passed, 0 tests failed out of 3');
}, 300_000);

test('the same under AddressSanitizer and UBSan, with both fuzzers for 20 s each', async () => {
  const output = await ctest(await build('sanitize', '-DGRAVAL_SANITIZE=ON'), '--parallel', '2');
  expect(output).toMatch(/fuzz_verify \.+ +Passed/);
  expect(output).toContain('100% tests passed, 0 tests failed out of 4');
}, 400_000);

test('what is built already is not built again, and a missing tool is named', async () => {
  const reports: string[] = [];
  const report = (message: string) => void reports.push(message);
  const first = await buildGpu({ toolsDir: work, cuda: false, report });
  expect(await buildGpu({ toolsDir: work, cuda: false, report })).toBe(first);
  expect(reports).toHaveLength(1);
  const path = process.env.PATH;
  process.env.PATH = work;
  try {
    await expect(buildGpu({ toolsDir: join(work, 'other'), cuda: false })).rejects.toThrow(
      'Missing for graval: cmake g++',
    );
  } finally {
    process.env.PATH = path;
  }
}, 300_000);
