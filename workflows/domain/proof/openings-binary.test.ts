import { readFile } from 'node:fs/promises';
import { expect, test } from '@jest/globals';
import { hexToBytes } from '@noble/hashes/utils.js';
import fc from 'fast-check';
import type { GpuOpenings, PovwChallenge } from './messages.ts';
import { openingsFromBinary, openingsToBinary, type OpenedBy } from './openings-binary.ts';
import { verifyOpenings, type VerifyOpenings } from './verify-openings.ts';

interface Vectors {
  challenge: PovwChallenge;
  seed: string;
  root: string;
  nonce2: string;
  digest: string;
  trace_root: string;
  samples: VerifyOpenings['samples'];
  openings: GpuOpenings;
}

async function load(name: string): Promise<{ vectors: Vectors; by: OpenedBy; bytes: Uint8Array }> {
  const file = new URL(`../../../gpu/test/vectors/${name}.json`, import.meta.url);
  const vectors = JSON.parse(await readFile(file, 'utf8')) as Vectors;
  const by = { profile: vectors.challenge.profile, seed: hexToBytes(vectors.seed), samples: vectors.samples };
  const bytes = openingsToBinary(by, vectors.openings);
  if (!bytes) throw new Error(`the published openings of ${name} have no binary form`);
  return { vectors, by, bytes };
}

const verdictOf = ({ challenge, root, nonce2, digest, trace_root, samples }: Vectors, openings: unknown) =>
  verifyOpenings({ challenge, root, nonce2, walk: { digest, trace_root }, samples, openings });

test.each(['tiny-a', 'tiny-b'])('the published openings of %s survive both ways unchanged', async (name) => {
  const { vectors, by, bytes } = await load(name);
  expect(openingsFromBinary(by, bytes)).toEqual(vectors.openings);
});

test.each(['tiny-a', 'tiny-b'])('%s cut or lengthened has no other form', async (name) => {
  const { by, bytes } = await load(name);
  for (let length = 0; length < bytes.length; length += 61)
    expect(openingsFromBinary(by, bytes.slice(0, length))).toBeNull();
  expect(openingsFromBinary(by, new Uint8Array([...bytes, 0]))).toBeNull();
});

test('bytes changed anywhere are refused in the other form too', async () => {
  const { vectors, by, bytes } = await load('tiny-b');
  const accepted: number[] = [];
  for (let at = 0; at < bytes.length; at += 11) {
    const changed = Uint8Array.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
    const openings = openingsFromBinary(by, changed);
    if (openings && verdictOf(vectors, openings).verified) accepted.push(at);
  }
  expect(accepted).toEqual([]);
});

test('hashes moved from one path to the next have no binary form: the pieces would fit together again', async () => {
  const { vectors, by } = await load('tiny-b');
  const openings = structuredClone(vectors.openings);
  const row = openings.fill[0]?.row;
  if (!row) throw new Error('no opening');
  row.root_path.unshift(row.path.pop() ?? '');
  expect(openingsToBinary(by, openings)).toBeNull();
});

test('anything but openings is null, not a throw', async () => {
  const { vectors, by } = await load('tiny-a');
  fc.assert(
    fc.property(fc.anything(), (value) => expect(openingsToBinary(by, value)).toBeNull()),
    { numRuns: 200, seed: 3 },
  );
  fc.assert(
    fc.property(fc.anything(), fc.nat({ max: 3 }), (value, index) => {
      const fill = vectors.openings.fill.map((opening, at) => (at === index ? value : opening));
      expect(openingsToBinary(by, { ...vectors.openings, fill })).toBeNull();
    }),
    { numRuns: 200, seed: 4 },
  );
});
