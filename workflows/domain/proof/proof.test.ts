import { readFile } from 'node:fs/promises';
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { fromBase64, toBase64 } from './bytes.ts';
import { drawSamples } from './draw-samples.ts';
import { merkleLevels, merklePath, merkleRoot, rootFromPath } from './merkle.ts';
import type { PovwChallenge, PovwProfile } from './messages.ts';
import { PROFILES } from './profiles.ts';
import { proofVectors, vectorChallenge } from './proof-vectors.ts';
import { createProver, PLAIN_ENGINE, type ProofEngine } from './prover.ts';
import { verifyOpenings, type VerifyOpenings } from './verify-openings.ts';

const seeded = (round: number): Uint8Array => sha256(new TextEncoder().encode(`round ${round}`));
const hex = bytesToHex;

function honest(profile: PovwProfile, round: number, over: Partial<PovwChallenge['binding']> = {}): VerifyOpenings {
  const base = vectorChallenge(profile);
  const challenge = { profile, binding: { ...base.binding, validatorNonce: hex(seeded(round)), ...over } };
  const prover = createProver(challenge);
  const { root } = prover.commit();
  const nonce2 = hex(seeded(round + 10_000));
  const walk = prover.walk(nonce2);
  const samples = drawSamples(profile, seeded(round + 20_000));
  return { challenge, root, nonce2, walk, samples, openings: prover.open(samples) };
}

test.each(['tiny-a', 'tiny-b'] as const)('the published vectors of %s are what this code computes', async (name) => {
  const file = new URL(`../../../gpu/test/vectors/${name}.json`, import.meta.url);
  const vectors: unknown = JSON.parse(await readFile(file, 'utf8'));
  expect(JSON.parse(JSON.stringify(proofVectors(PROFILES[name])))).toEqual(vectors);
});

test('an honest prover is never refused (300 seeded runs)', () => {
  for (let round = 0; round < 300; round++) {
    const profile = round % 2 ? PROFILES['tiny-a'] : PROFILES['tiny-b'];
    expect(verifyOpenings(honest(profile, round))).toEqual({
      gpuUuid: 'c0ffee00c0ffee00c0ffee00c0ffee00',
      verified: true,
      samplesChecked: profile.fillSamples + profile.walkSamples,
    });
  }
});

test('an honest cpu-dev proof passes', () => {
  expect(verifyOpenings(honest(PROFILES['cpu-dev'], 1))).toMatchObject({ verified: true, samplesChecked: 32 });
});

test.each([
  ['another gpu', { gpuUuid: 'd0'.repeat(16) }],
  ['another validator nonce', { validatorNonce: '77'.repeat(32) }],
  ['another launch', { configId: 'another' }],
  ['another miner', { minerHotkey: 'another' }],
  ['another type', { gpuType: 'l40' }],
  ['another size', { vramBytes: 1 }],
  ['another transport key', { transportPublicKey: '11'.repeat(32) }],
])('a proof made for %s is refused', (_, over) => {
  const proof = honest(PROFILES['cpu-dev'], 2);
  expect(
    verifyOpenings({ ...proof, challenge: { ...proof.challenge, binding: { ...proof.challenge.binding, ...over } } }),
  ).toMatchObject({ verified: false });
});

test('a proof walked with another second nonce is refused', () => {
  expect(verifyOpenings({ ...honest(PROFILES['cpu-dev'], 3), nonce2: '11'.repeat(32) })).toMatchObject({
    reason: 'walk_start_differs',
  });
});

test('a swapped root, trace root or digest is refused for what it is', () => {
  const proof = honest(PROFILES['tiny-b'], 4);
  const other = honest(PROFILES['tiny-b'], 5);
  const { digest, trace_root } = proof.walk as { digest: string; trace_root: string };
  const otherWalk = other.walk as { digest: string; trace_root: string };
  expect(verifyOpenings({ ...proof, root: other.root })).toMatchObject({ reason: 'fill_row_not_committed' });
  expect(verifyOpenings({ ...proof, walk: { digest, trace_root: otherWalk.trace_root } })).toMatchObject({
    reason: 'walk_leaf_not_committed',
  });
  expect(verifyOpenings({ ...proof, walk: { digest: otherWalk.digest, trace_root } })).toMatchObject({
    reason: 'walk_digest_differs',
  });
});

/** A prover whose engine lies, opened exactly where it lied. */
function cheat(engine: Partial<ProofEngine>, sample: { block?: number; step?: number }): VerifyOpenings {
  const challenge = vectorChallenge(PROFILES['cpu-dev']);
  const prover = createProver(challenge, { ...PLAIN_ENGINE, ...engine });
  const { root } = prover.commit();
  const nonce2 = '33'.repeat(32);
  const walk = prover.walk(nonce2);
  const drawn = drawSamples(challenge.profile, seeded(77));
  const samples = {
    fill: drawn.fill.map((index) => ({ ...index, block: sample.block ?? 0 })),
    walk: drawn.walk.map((index, at) => (at < 2 ? index : { ...index, step: sample.step ?? 0 })),
  };
  return { challenge, root, nonce2, walk, samples, openings: prover.open(samples) };
}
const junk = (length: number, at: number): Int8Array =>
  Int8Array.from({ length }, (_, index) => ((index * 37 + at) % 251) - 125);

test.each([
  [
    'a block of invented contents',
    { multiply: (left, right, i, n) => (i === 9 ? junk(n * n, i) : PLAIN_ENGINE.multiply(left, right, i, n)) },
    { block: 9 },
    'fill_entry_differs',
  ],
  [
    'a skipped block: the one before stands in',
    { multiply: (left, right, i, n) => (i === 9 ? left.slice() : PLAIN_ENGINE.multiply(left, right, i, n)) },
    { block: 9 },
    'fill_entry_differs',
  ],
  [
    'an invented x',
    { step: (block, x, t, n, k) => (t === 40 ? junk(n * k, t) : PLAIN_ENGINE.step(block, x, t, n, k)) },
    { step: 39 },
    'walk_entry_differs',
  ],
  [
    'a step over another block',
    { step: (block, x, t, n, k) => PLAIN_ENGINE.step(t === 40 ? junk(n * n, 1) : block, x, t, n, k) },
    { step: 39 },
    'walk_entry_differs',
  ],
] satisfies [string, Partial<ProofEngine>, { block?: number; step?: number }, string][])(
  '%s is caught where it is opened',
  (_, engine, sample, reason) => {
    expect(verifyOpenings(cheat(engine, sample))).toMatchObject({ verified: false, reason });
  },
);

test('a tenth of the blocks missing is caught as often as sixteen samples can', () => {
  const lazy = {
    multiply: (left: Int8Array, right: Int8Array, i: number, n: number) =>
      i % 10 === 5 ? junk(n * n, i) : PLAIN_ENGINE.multiply(left, right, i, n),
  };
  const challenge = vectorChallenge({ ...PROFILES['tiny-b'], blocks: 40, fillSamples: 16 });
  let caught = 0;
  for (let round = 0; round < 200; round++) {
    const prover = createProver(challenge, { ...PLAIN_ENGINE, ...lazy });
    const { root } = prover.commit();
    const nonce2 = hex(seeded(round));
    const walk = prover.walk(nonce2);
    const samples = drawSamples(challenge.profile, seeded(round + 5000));
    if (!verifyOpenings({ challenge, root, nonce2, walk, samples, openings: prover.open(samples) }).verified) caught++;
  }
  // 1 − 0.9^16 = 81 %
  expect(caught).toBeGreaterThan(200 * 0.72);
  expect(caught).toBeLessThan(200 * 0.9);
});

test('openings of other samples than the drawn ones are refused', () => {
  const proof = honest(PROFILES['tiny-b'], 6);
  const samples = drawSamples(PROFILES['tiny-b'], seeded(999));
  expect(verifyOpenings({ ...proof, samples })).toMatchObject({ verified: false });
});

test('anything but openings is a verdict, not a throw', () => {
  const proof = honest(PROFILES['tiny-a'], 7);
  for (const part of ['root', 'nonce2', 'walk', 'openings'] as const) {
    fc.assert(
      fc.property(fc.anything(), (value) =>
        expect(verifyOpenings({ ...proof, [part]: value })).toMatchObject({ verified: false }),
      ),
      { numRuns: 200, seed: 7 },
    );
  }
});

/** Every place in a JSON value that holds a string or a list, as a setter. */
function places(
  value: unknown,
  set: (to: unknown) => void = () => {},
): { value: unknown; set: (to: unknown) => void }[] {
  if (typeof value !== 'object' || value === null) return [{ value, set }];
  return [
    { value, set },
    ...Object.entries(value).flatMap(([key, inner]) =>
      places(inner, (to) => void ((value as Record<string, unknown>)[key] = to)),
    ),
  ];
}

test('every part of the openings matters: changed, cut, lengthened, dropped or of another type, it is refused', () => {
  const proof = honest(PROFILES['tiny-a'], 8);
  const count = places(structuredClone(proof.openings)).length;
  for (let index = 1; index < count; index++) {
    for (const change of [flip, cut, lengthen, () => undefined, () => null, () => 17, () => ({}), () => [[]]]) {
      const openings: unknown = structuredClone(proof.openings);
      const place = places(openings)[index];
      if (!place) throw new Error('no such place');
      const changed = change(place.value);
      if (JSON.stringify(changed) === JSON.stringify(place.value)) continue;
      place.set(changed);
      expect({ index, verified: verifyOpenings({ ...proof, openings }).verified }).toEqual({ index, verified: false });
    }
  }
});
const flip = (value: unknown): unknown =>
  typeof value === 'string' ? `${value.startsWith('0') ? '1' : '0'}${value.slice(1)}` : 0;
const cut = (value: unknown): unknown =>
  typeof value === 'string' ? value.slice(1) : Array.isArray(value) ? value.slice(1) : 0;
const lengthen = (value: unknown): unknown =>
  typeof value === 'string' ? `${value}0` : Array.isArray(value) ? [...(value as unknown[]), '00'.repeat(32)] : 0;

test.each([
  ['outside the block', { block: 5, row: 0, column: 0 }],
  ['negative', { block: 0, row: -1, column: 0 }],
  ['fractional', { block: 0, row: 0.5, column: 0 }],
])('a sample that is %s is a verdict', (_, index) => {
  const proof = honest(PROFILES['tiny-a'], 9);
  const samples = { ...proof.samples, fill: proof.samples.fill.map(() => index) };
  expect(verifyOpenings({ ...proof, samples })).toMatchObject({ reason: 'samples_malformed' });
});

test('samples without the first and last step are not accepted: start and digest would go unchecked', () => {
  const proof = honest(PROFILES['tiny-a'], 10);
  const samples = { ...proof.samples, walk: proof.samples.walk.map((sample) => ({ ...sample, step: 2 })) };
  expect(verifyOpenings({ ...proof, samples })).toMatchObject({ reason: 'samples_malformed' });
});

test.each([{ n: 0 }, { n: 1e9 }, { k: Number.NaN }, { blocks: 1 }, { steps: 2 ** 40 }, { walkSamples: 1 }])(
  'a profile with %o is refused, not computed',
  (over) => {
    const proof = honest(PROFILES['tiny-a'], 11);
    const challenge = { ...proof.challenge, profile: { ...proof.challenge.profile, ...over } };
    expect(verifyOpenings({ ...proof, challenge })).toMatchObject({ reason: 'challenge_malformed' });
    expect(() => createProver(challenge)).toThrow('malformed');
  },
);

test('drawn samples cover both ends of the walk and stay in range', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (random) => {
      const { fill, walk } = drawSamples(PROFILES['tiny-b'], random);
      expect(walk.map(({ step }) => step)).toEqual(expect.arrayContaining([0, 8]));
      return (
        fill.every(({ block, row, column }) => block < 7 && row < 12 && column < 12) &&
        walk.every(({ step, row, column }) => step < 9 && row < 12 && column < 3)
      );
    }),
  );
});

test('base64 has one spelling and agrees with the platform', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const text = toBase64(bytes);
      expect(text).toBe(btoa(String.fromCharCode(...bytes)));
      expect(fromBase64(text, bytes.length)).toEqual(bytes);
    }),
  );
  expect(fromBase64('AB==', 1)).toBeNull(); // the spare bits are not zero
  expect(fromBase64('A===', 1)).toBeNull();
});

test('Merkle paths lead to the root for every leaf of every tree, and only there', () => {
  for (let count = 1; count <= 33; count++) {
    const leaves = Array.from({ length: count }, (_, index) => seeded(index));
    const levels = merkleLevels(leaves);
    for (let index = 0; index < count; index++) {
      const path = merklePath(levels, index);
      expect(rootFromPath(leaves[index] ?? new Uint8Array(), index, count, path)).toEqual(merkleRoot(leaves));
      expect(rootFromPath(leaves[index] ?? new Uint8Array(), index, count, [...path, hex(seeded(1))])).toBeNull();
      if (index + 1 < count)
        expect(rootFromPath(leaves[index] ?? new Uint8Array(), index + 1, count, path)).not.toEqual(merkleRoot(leaves));
    }
  }
});
