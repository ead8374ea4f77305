import { expect, test } from '@jest/globals';
import { PROFILES } from '../../../workflows/domain/proof/profiles.ts';
import { createProofSessionActivities } from './proof-session-activities.ts';

const steps = createProofSessionActivities({ profileFor: () => PROFILES['tiny-b'] });
const input = {
  plugin: 'simulated' as const,
  configId: 'config',
  minerHotkey: 'miner',
  transportPublicKey: '0'.repeat(64),
  gpus: [
    { uuid: 'a'.repeat(32), gpuType: 'h100', vramBytes: 80e9 },
    { uuid: 'b'.repeat(32), gpuType: 'h100', vramBytes: 80e9 },
  ],
};

test('nonces and samples are fresh at each draw', async () => {
  const [one, two] = [await steps.beginProof(input), await steps.beginProof(input)];
  const nonces = [...one.challenges, ...two.challenges].map(({ binding }) => binding.validatorNonce);
  expect(new Set(nonces).size).toBe(4);
  const roots = { ['a'.repeat(32)]: '0'.repeat(64), ['b'.repeat(32)]: '0'.repeat(64) };
  const commit = () => steps.acceptCommit({ session: one, roots, elapsedMs: 0 });
  expect((await commit()).nonce2).not.toBe((await commit()).nonce2);
});

const roots = { ['a'.repeat(32)]: '0'.repeat(64), ['b'.repeat(32)]: '0'.repeat(64) };
test.each([
  ['a missing root', { ['a'.repeat(32)]: '0'.repeat(64) }, 0, 'proof.refused'],
  ['a root of another GPU', { ...roots, ['c'.repeat(32)]: '0'.repeat(64) }, 0, 'proof.refused'],
  ['a malformed root', { ...roots, ['a'.repeat(32)]: 'x' }, 0, 'proof.refused'],
  ['a fill past its limit', roots, 30_001, 'proof.refused'],
  ['a time that is not one', roots, Number.NaN, 'proof.refused'],
])('%s is refused', async (_, given, elapsedMs, code) => {
  const session = await steps.beginProof(input);
  await expect(steps.acceptCommit({ session, roots: given, elapsedMs })).rejects.toMatchObject({ code });
});

test('steps out of order are not awaited', async () => {
  const session = await steps.beginProof(input);
  await expect(steps.acceptWalk({ session, walks: {}, elapsedMs: 0 })).rejects.toMatchObject({
    code: 'proof.not_awaited',
  });
  const committed = await steps.acceptCommit({ session, roots, elapsedMs: 0 });
  await expect(steps.acceptCommit({ session: committed, roots, elapsedMs: 0 })).rejects.toMatchObject({
    code: 'proof.not_awaited',
  });
  const late = {
    ['a'.repeat(32)]: { digest: '0'.repeat(64), trace_root: '0'.repeat(64) },
    ['b'.repeat(32)]: { digest: '0'.repeat(64), trace_root: '0'.repeat(64) },
  };
  await expect(steps.acceptWalk({ session: committed, walks: late, elapsedMs: 30_001 })).rejects.toMatchObject({
    code: 'proof.refused',
  });
});

test('a proof of the same GPU twice, or of none, is not begun', async () => {
  await expect(steps.beginProof({ ...input, gpus: [] })).rejects.toMatchObject({ code: 'request.invalid' });
  await expect(steps.beginProof({ ...input, gpus: [...input.gpus, ...input.gpus] })).rejects.toMatchObject({
    code: 'request.invalid',
  });
});

test('plug-in none has nothing to commit to', async () => {
  const none = await steps.beginProof({ ...input, plugin: 'none' });
  await expect(steps.acceptCommit({ session: none, roots: {}, elapsedMs: 0 })).rejects.toMatchObject({
    code: 'proof.not_awaited',
  });
});
