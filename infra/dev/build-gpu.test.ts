import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { buildGpu } from './build-gpu.ts';

/** The native tests (gpu/test) in both builds. Built outside the checkout, so that nothing old can pass. */
const run = promisify(execFile);
const SOURCES = join(import.meta.dirname, '../../gpu');
/** Both targets at once on two cores. */
const FUZZ_SECONDS = 30;
let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), 'canopy-gpu-'));
});
afterAll(() => rm(work, { recursive: true, force: true }));

async function build(name: string, ...options: string[]): Promise<string> {
  const dir = join(work, name);
  await run('cmake', ['-S', SOURCES, '-B', dir, ...options]);
  await run('cmake', ['--build', dir, '--parallel', '2'], { maxBuffer: 64 * 1024 ** 2 });
  return dir;
}
const ctest = async (dir: string): Promise<string> =>
  (await run('ctest', ['--test-dir', dir, '--output-on-failure'], { maxBuffer: 64 * 1024 ** 2 })).stdout;

/** clang without its runtime compiles a fuzz target and cannot link it. */
async function hasLibFuzzer(): Promise<boolean> {
  const source = join(work, 'probe.cpp');
  await writeFile(source, 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char *, unsigned long) { return 0; }');
  return run('clang++', ['-fsanitize=fuzzer,address,undefined', source, '-o', join(work, 'probe')]).then(
    () => true,
    () => false,
  );
}

/** Any bytes to `graval verify` or `graval serve` for FUZZ_SECONDS; fails with the defect found. Answers how many inputs were tried. */
async function fuzz(dir: string, target: 'verify' | 'serve', libFuzzer: boolean): Promise<number> {
  const corpus = join(SOURCES, 'test/corpus', target);
  const grown = await mkdtemp(join(work, `${target}-`)); // libFuzzer writes what it finds into the first folder
  const args = libFuzzer
    ? [`-max_total_time=${FUZZ_SECONDS}`, '-seed=1', '-max_len=16384', `-artifact_prefix=${grown}/`, grown, corpus]
    : [String(FUZZ_SECONDS), '1', corpus];
  const { stdout, stderr } = await run(join(dir, `test/fuzz_${target}`), args, { maxBuffer: 64 * 1024 ** 2 });
  return Number(/^(?:Done )?(\d+) (?:runs|inputs)/m.exec(libFuzzer ? stderr : stdout)?.[1]);
}

test('vectors, every changed byte, the self-test, and the CUDA sources on the emulator', async () => {
  const output = await ctest(await build('release', '-DGRAVAL_SANITIZE=OFF'));
  expect(output).toMatch(/emulated \.+ +Passed/);
  expect(output).toContain('100% tests passed, 0 tests failed out of 3');
}, 300_000);

test('the same under AddressSanitizer and UBSan, where fuzzing verifier and protocol finds no defect', async () => {
  const libFuzzer = await hasLibFuzzer();
  const clang = libFuzzer ? ['-DGRAVAL_LIBFUZZER=ON', '-DCMAKE_CXX_COMPILER=clang++'] : [];
  const dir = await build('sanitize', '-DGRAVAL_SANITIZE=ON', ...clang);
  expect(await ctest(dir)).toContain('100% tests passed, 0 tests failed out of 2');
  const [verify, serve] = await Promise.all([fuzz(dir, 'verify', libFuzzer), fuzz(dir, 'serve', libFuzzer)]);
  const by = libFuzzer ? 'libFuzzer' : 'seeded mutations (no clang with libFuzzer here)';
  process.stderr.write(
    `fuzzed by ${by}, ${FUZZ_SECONDS} s each: verify ${verify.toLocaleString('en')} executions, serve ${serve.toLocaleString('en')}\n`,
  );
  expect(verify).toBeGreaterThan(1000);
  expect(serve).toBeGreaterThan(100);
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
