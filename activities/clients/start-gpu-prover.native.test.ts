import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from '@jest/globals';
import { buildGpu } from '../../infra/dev/build-gpu.ts';
import { drawSamples } from '../../workflows/domain/proof/draw-samples.ts';
import { PROFILES } from '../../workflows/domain/proof/profiles.ts';
import { vectorChallenge } from '../../workflows/domain/proof/proof-vectors.ts';
import { startGpuProver } from './start-gpu-prover.ts';
import { findProverEngine } from './prover-engine.ts';
import { runningProvers } from './testing/running-provers.ts';

let graval: string;
beforeAll(async () => void (graval = await buildGpu({ cuda: false })), 300_000);

const NONCE2 = '44'.repeat(32);

test.each(['tiny-a', 'tiny-b', 'cpu-dev'] as const)(
  '%s: both engines answer every step with the same bytes',
  async (name) => {
    const challenge = vectorChallenge(PROFILES[name]);
    const samples = drawSamples(challenge.profile, new Uint8Array(32).fill(5));
    const answers = async (program: string | null) => {
      const prover = startGpuProver(challenge, { graval: program, device: -1 });
      try {
        const root = await prover.commit();
        const walk = await prover.walk(NONCE2);
        const [openings, again] = [await prover.open(samples), await prover.open(samples)];
        expect(Buffer.compare(openings, again)).toBe(0);
        return { root, walk, openings: Buffer.from(openings).toString('base64') };
      } finally {
        await prover.close();
      }
    };
    expect(await answers(graval)).toEqual(await answers(null));
  },
);

test('a prover that is killed is a rejected step; others go on, and closing leaves no process', async () => {
  const challenge = vectorChallenge(PROFILES['cpu-dev']);
  const place = { graval, device: -1 };
  const doomed = startGpuProver(challenge, place);
  const [pid = 0] = await runningProvers(1);
  const root = await doomed.commit();
  const other = startGpuProver(challenge, place);
  process.kill(pid, 'SIGKILL');
  await expect(doomed.walk(NONCE2)).rejects.toThrow(
    /^walk by GPU [0-9a-f]{32} failed: graval serve ended with SIGKILL/,
  );
  await expect(doomed.open({ fill: [], walk: [] })).rejects.toThrow('SIGKILL');
  expect(await other.commit()).toBe(root);
  await Promise.all([doomed.close(), other.close()]);
  expect(await runningProvers()).toEqual([]);
});

test('the build here is found, knows no GPU, and needs nothing of the image it runs in', async () => {
  const engine = await findProverEngine(graval);
  expect(engine.devices).toEqual([]);
  expect(engine.placeOf('a'.repeat(32))).toEqual({ graval, device: -1 });
  const { stdout } = await promisify(execFile)('ldd', [graval]).catch((err: { stderr: string }) => ({
    stdout: err.stderr,
  }));
  expect(stdout).toMatch(/not a dynamic executable|statically linked/);
});
