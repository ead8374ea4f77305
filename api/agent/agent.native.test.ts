import { beforeAll, expect, test } from '@jest/globals';
import { findProverEngine } from '../../activities/clients/prover-engine.ts';
import { runningProvers } from '../../activities/clients/testing/running-provers.ts';
import { buildGpu } from '../../infra/dev/build-gpu.ts';
import { drawSamples } from '../../workflows/domain/proof/draw-samples.ts';
import type { PovwChallenge } from '../../workflows/domain/proof/messages.ts';
import { openingsFromBinary } from '../../workflows/domain/proof/openings-binary.ts';
import { seedOf } from '../../workflows/domain/proof/povw-hashes.ts';
import { PROFILES } from '../../workflows/domain/proof/profiles.ts';
import { vectorChallenge } from '../../workflows/domain/proof/proof-vectors.ts';
import { verifyOpenings } from '../../workflows/domain/proof/verify-openings.ts';
import { ProofSessions } from './proof-sessions.ts';

/** The agent's proofs by the program graval, one process a GPU. */
const UUIDS = ['a'.repeat(32), 'b'.repeat(32)];
const NONCE2 = '44'.repeat(32);
let sessions: ProofSessions;
let challenges: PovwChallenge[];

beforeAll(async () => {
  const engine = await findProverEngine(await buildGpu({ cuda: false }));
  const { binding, profile } = vectorChallenge(PROFILES['cpu-dev']);
  challenges = UUIDS.map((gpuUuid) => ({ profile, binding: { ...binding, gpuUuid } }));
  sessions = new ProofSessions({ minerHotkey: binding.minerHotkey, gpuUuids: UUIDS, idleMs: 60_000, engine });
}, 300_000);

test('both GPUs prove at once, each in a process that ends with the session', async () => {
  expect(sessions.provers).toEqual(Object.fromEntries(UUIDS.map((uuid) => [uuid, 'graval (CPU reference)'])));
  const { roots } = await sessions.commit('s', challenges);
  expect(await runningProvers()).toHaveLength(2);
  const { walks } = await sessions.walk('s', NONCE2);
  for (const challenge of challenges) {
    const { binding, profile } = challenge;
    const samples = drawSamples(profile, new Uint8Array(32).fill(6));
    const bytes = await sessions.open('s', binding.gpuUuid, samples);
    const openings = openingsFromBinary({ profile, seed: seedOf(binding), samples }, bytes);
    const [root, walk] = [roots[binding.gpuUuid], walks[binding.gpuUuid]];
    expect(verifyOpenings({ challenge, root, nonce2: NONCE2, walk, samples, openings })).toMatchObject({
      verified: true,
    });
  }
  await sessions.close('s');
  expect(await runningProvers()).toEqual([]);
});

test('a prover killed between two steps is a refused step; the next proof of the GPUs goes through', async () => {
  await sessions.commit('t', challenges);
  const [pid = 0] = await runningProvers(2);
  process.kill(pid, 'SIGKILL');
  await expect(sessions.walk('t', NONCE2)).rejects.toMatchObject({
    code: 'service.unavailable',
    message: expect.stringMatching(/^walk by GPU [ab]{32} failed: graval serve ended with SIGKILL/) as unknown,
  });
  expect([sessions.size, await runningProvers()]).toEqual([0, []]);
  await sessions.commit('t', challenges);
  expect(Object.keys((await sessions.walk('t', NONCE2)).walks)).toEqual(UUIDS);
  await sessions.closeAll();
});
