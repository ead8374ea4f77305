import { createHash } from 'node:crypto';
import { expect, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import type { ProofSession } from '../../../workflows/domain/proof/plugin.ts';
import { PROFILES } from '../../../workflows/domain/proof/profiles.ts';
import { createProver } from '../../../workflows/domain/proof/prover.ts';
import { createProofSessionActivities } from './proof-session-activities.ts';
import { createProofVerificationActivities } from './proof-verification-activities.ts';

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

class Blobs {
  readonly objects = new Map<string, Buffer>();
  put(key: string, body: string): { key: string; sha256: string } {
    this.objects.set(key, Buffer.from(body));
    return { key, sha256: createHash('sha256').update(body).digest('hex') };
  }
  get = async (key: string): Promise<Buffer | null> => this.objects.get(key) ?? null;
}

async function proven(): Promise<{ session: ProofSession; openings: Record<string, unknown> }> {
  const begun = await steps.beginProof(input);
  const provers = begun.challenges.map((challenge) => ({
    uuid: challenge.binding.gpuUuid,
    prover: createProver(challenge),
  }));
  const roots = Object.fromEntries(provers.map(({ uuid, prover }) => [uuid, prover.commit().root]));
  const committed = await steps.acceptCommit({ session: begun, roots, elapsedMs: 5 });
  const walks = Object.fromEntries(provers.map(({ uuid, prover }) => [uuid, prover.walk(committed.nonce2 ?? '')]));
  const session = await steps.acceptWalk({ session: committed, walks, elapsedMs: 5 });
  return {
    session,
    openings: Object.fromEntries(
      provers.map(({ uuid, prover }) => [uuid, prover.open(session.samples?.[uuid] ?? { fill: [], walk: [] })]),
    ),
  };
}

const verify = (
  blobs: Blobs,
  input: Parameters<ReturnType<typeof createProofVerificationActivities>['verifyProof']>[0],
  info = {},
) => new MockActivityEnvironment(info).run(createProofVerificationActivities({ blobs }).verifyProof, input);

test('a whole conversation ends in trust level simulated, and verifying twice says the same', async () => {
  const blobs = new Blobs();
  const { session, openings } = await proven();
  const ref = blobs.put('o', JSON.stringify(openings));
  const first = await verify(blobs, { session, openings: ref });
  expect(first).toMatchObject({ verified: true, trustLevel: 'simulated' });
  expect(await verify(blobs, { session, openings: ref })).toEqual(first);
});

test('a new attempt resumes after the last GPU that was finished', async () => {
  const blobs = new Blobs();
  const { session, openings } = await proven();
  const remembered = { gpuUuid: 'a'.repeat(32), verified: false as const, reason: 'remembered' };
  const verdict = await verify(
    blobs,
    { session, openings: blobs.put('o', JSON.stringify(openings)) },
    { heartbeatDetails: { verdicts: [remembered] } },
  );
  expect(verdict).toMatchObject({ verified: false, reason: 'remembered', verdicts: [remembered, { verified: true }] });
});

test.each([
  ['not JSON', () => 'no'],
  ['null', () => 'null'],
  [
    'one GPU missing',
    (openings: Record<string, unknown>) => JSON.stringify({ ['a'.repeat(32)]: openings['a'.repeat(32)] }),
  ],
  [
    "one GPU's given for the other",
    (openings: Record<string, unknown>) => JSON.stringify({ ...openings, ['b'.repeat(32)]: openings['a'.repeat(32)] }),
  ],
])('openings that are %s: refused as a value', async (_, body) => {
  const blobs = new Blobs();
  const { session, openings } = await proven();
  expect(await verify(blobs, { session, openings: blobs.put('o', body(openings)) })).toMatchObject({ verified: false });
});

test('bytes that are not the received ones are a fault of the store, not a verdict', async () => {
  const blobs = new Blobs();
  const { session, openings } = await proven();
  blobs.put('o', JSON.stringify(openings));
  await expect(verify(blobs, { session, openings: { key: 'o', sha256: '0'.repeat(64) } })).rejects.toThrow(
    'not the bytes',
  );
  await expect(verify(blobs, { session, openings: { key: 'gone', sha256: '0'.repeat(64) } })).rejects.toThrow(
    'not in the store',
  );
});

test('a proof without its steps is refused; plug-in none passes with trust level none', async () => {
  const begun = await steps.beginProof(input);
  expect(await verify(new Blobs(), { session: begun, openings: null })).toMatchObject({
    verified: false,
    reason: 'proof_incomplete',
  });
  const none = await steps.beginProof({ ...input, plugin: 'none' });
  expect(await verify(new Blobs(), { session: none, openings: null })).toEqual({
    verified: true,
    trustLevel: 'none',
    verdicts: [],
  });
  await expect(steps.acceptCommit({ session: none, roots: {}, elapsedMs: 0 })).rejects.toMatchObject({
    code: 'proof.not_awaited',
  });
});

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
