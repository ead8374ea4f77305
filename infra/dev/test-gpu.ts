import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createGravalClient } from '../../activities/clients/graval.ts';
import { compareProvers } from '../../bench/proof-native.ts';
import { gpuTypeOfName } from '../../workflows/domain/gpus/gpu-table.ts';
import { buildGpu } from './build-gpu.ts';
import { stdoutOf } from './calibrate-gpu.ts';
import { findOnPath } from './toolchain.ts';

/**
 * `npm run test:gpu [-- --quick]` on a machine with an NVIDIA GPU, in under 8 minutes: builds `graval`, compares the device with
 * the reference on the vectors and 1,000 random instances, runs the self-test (under compute-sanitizer where it is installed),
 * then measures and writes `gpu/results/<card>-<date>.json`. Needs nothing but Node, cmake, g++ and a driver.
 */
const ROOT = join(import.meta.dirname, '../..');
const run = promisify(execFile);
const quick = process.argv.includes('--quick');

const startedAt = performance.now();
const report = (text: string) =>
  void process.stderr.write(`${((performance.now() - startedAt) / 1000).toFixed(0).padStart(4)} s  ${text}\n`);

const binary = await buildGpu({ cuda: true, report });
const client = createGravalClient({ binary });
const { devices } = await client.info();
if (devices.length === 0) {
  process.stderr.write('No NVIDIA GPU found (no driver, or no device). Nothing was tested on a GPU.\n');
  process.exit(1);
}
let failed = 0;
for (const device of devices) {
  report(`device ${device.index}: ${device.name}, ${(device.memoryBytes / 1024 ** 3).toFixed(1)} GiB`);
  await part('self-test', async () => void (await run(binary, ['selftest', '--device', String(device.index)])));
  await part('the device and the reference agree', async () => {
    const { instances } = await compareProvers({ client, device: device.index, rounds: quick ? 100 : 1000 });
    report(`  ${instances} instances, bit for bit`);
  });
}
const sanitizer =
  (await findOnPath('compute-sanitizer')) ?? (await findOnPath('compute-sanitizer', '/usr/local/cuda/bin'));
if (sanitizer === null) report('compute-sanitizer is not installed: memory checks did not run');
else
  for (const tool of ['memcheck', 'racecheck'])
    await part(
      `compute-sanitizer ${tool}`,
      async () =>
        void (await run(sanitizer, ['--tool', tool, '--error-exitcode', '1', binary, 'selftest', '--device', '0'], {
          timeout: 120_000,
        })),
    );
await part('measurements', measure);
report(failed === 0 ? 'all passed' : `${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

async function part(name: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
    report(`passed  ${name}`);
  } catch (err) {
    failed++;
    report(`FAILED  ${name}: ${(err as Error).message.slice(0, 500)}`);
  }
}

/**
 * The whole memory of the card, with a shorter walk (a step's time does not depend on how many there are); then, where the card is one
 * of the types sold, what calibration would make of it.
 */
async function measure(): Promise<void> {
  const card = devices[0]?.name ?? '';
  const type = gpuTypeOfName(card);
  const text = await stdoutOf(binary, ['bench', '--device', '0', '--steps', quick ? '2000' : '20000']);
  report(`  ${text}`);
  const calibration = `--type ${type?.ref} --device 0 --vram-bytes ${(type?.memoryGb ?? 0) * 1e9}`;
  const measured = {
    date: new Date().toISOString(),
    device: JSON.parse(text) as unknown,
    row: type
      ? (JSON.parse(await stdoutOf(binary, ['bench', '--calibrate', ...calibration.split(' ')])) as unknown)
      : null,
    verifier: JSON.parse(await stdoutOf(binary, ['bench', '--verify'])) as unknown,
  };
  const name = `${card.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}-${measured.date.slice(0, 10)}.json`;
  await mkdir(join(ROOT, 'gpu/results'), { recursive: true });
  await writeFile(join(ROOT, 'gpu/results', name), `${JSON.stringify(measured, null, 1)}\n`);
  report(`  gpu/results/${name}`);
}
