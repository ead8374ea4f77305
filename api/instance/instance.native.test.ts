import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, test } from '@jest/globals';
import { loadHotkey } from '../../activities/clients/hotkey.ts';
import { runningProvers } from '../../activities/clients/testing/running-provers.ts';
import { buildGpu } from '../../infra/dev/build-gpu.ts';
import { PROFILES } from '../../workflows/domain/proof/profiles.ts';
import { startFakeValidator, type FakeValidatorOptions } from './testing/fake-validator.ts';
import { GPU_UUIDS, startTestRuntime } from './testing/test-runtime.ts';

/** A launch whose GPUs are proven by the program graval. */
const addresses = {
  miner: (await loadHotkey('11'.repeat(32))).address,
  validator: (await loadHotkey('22'.repeat(32))).address,
};
const chute = { code: 'no code', filename: 'chute.py' };
const command = [
  process.execPath,
  '-e',
  "require('http').createServer((req, res) => res.end('ok')).listen(Number(process.env.PORT), process.env.HOST)",
];

let graval: string;
beforeAll(async () => void (graval = await buildGpu({ cuda: false })), 300_000);
const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function boot(profile: NonNullable<FakeValidatorOptions['profile']>) {
  const validator = await startFakeValidator({ chute, profile });
  cleanups.push(() => validator.close());
  const runtime = await startTestRuntime({ validator, command, addresses, env: { CANOPY_GRAVAL: graval } });
  cleanups.push(async () => {
    runtime.stop();
    await runtime.end;
    await runtime.remove();
  });
  return { validator, runtime };
}

test('the launch is verified, and its provers have ended before the chute serves', async () => {
  const { validator, runtime } = await boot(PROFILES['cpu-dev']);
  await runtime.isActive();
  expect(validator.steps).toEqual(['claim', 'commit', 'walk', 'openings', 'openings', 'verify', 'activate']);
  expect(validator.state.verdicts).toEqual(
    GPU_UUIDS.map((gpuUuid) => ({ gpuUuid, verified: true, samplesChecked: 32 })),
  );
  expect(await runningProvers()).toEqual([]);
  const log = await readFile(join(runtime.workDir, '_chute.log'), 'utf8');
  expect(log).toContain('claiming 2 GPUs, to be proven by graval (CPU reference)');
});

// Long enough for a CPU to be met while it fills.
const SLOW = { ...PROFILES['cpu-dev'], n: 512, blocks: 60 };

test('a prover that is killed while it fills fails the launch by name, and the others are ended', async () => {
  const { validator, runtime } = await boot(SLOW);
  const [pid = 0] = await runningProvers(GPU_UUIDS.length);
  process.kill(pid, 'SIGKILL');
  expect(await runtime.end).toEqual({
    kind: 'failed',
    reason: expect.stringMatching(
      /^commit by GPU c0ffee[0-9a-f]{26} failed: graval serve ended with SIGKILL/,
    ) as unknown,
  });
  expect([validator.steps, await runningProvers()]).toEqual([['claim'], []]);
});

test('a stop while the GPUs fill frees them at once', async () => {
  const { runtime } = await boot(SLOW);
  await runningProvers(GPU_UUIDS.length);
  runtime.stop();
  expect(await runtime.end).toEqual({ kind: 'stopped' });
  expect(await runningProvers()).toEqual([]);
});
