import { createHash } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime } from '@temporalio/worker';
import type { ProofVerdict } from '../../../workflows/domain/proof/plugin.ts';
import { openingsBytesAtMost } from '../../../workflows/domain/proof/profile-rows.ts';
import { PROFILES } from '../../../workflows/domain/proof/profiles.ts';
import { createGravalClient } from '../../clients/graval.ts';
import { createProofSessionActivities } from './proof-session-activities.ts';
import { createProofVerificationActivities } from './proof-verification-activities.ts';
import { chooseVerifier, gravalVerifier, TYPESCRIPT_VERIFIER, type ProofVerifier } from './proof-verifier.ts';
import { BEGIN, Blobs, GPU_A, GPU_B, proven } from './testing/proven.ts';

type Input = Parameters<ReturnType<typeof createProofVerificationActivities>['verifyProof']>[0];
const verify = (
  blobs: Blobs,
  input: Input,
  { environment = new MockActivityEnvironment(), verifier = TYPESCRIPT_VERIFIER } = {},
): Promise<ProofVerdict> =>
  environment.run(createProofVerificationActivities({ blobs, verifier }).verifyProof, input) as Promise<ProofVerdict>;

let dir: string;
beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') }); // failing is what half of these do
  dir = await mkdtemp(join(tmpdir(), 'canopy-verify-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));
/** A program that is not graval. */
async function program(name: string, body: string): Promise<string> {
  const file = join(dir, name);
  await writeFile(file, `#!/bin/sh\n${body}\n`);
  await chmod(file, 0o755);
  return file;
}

test.each(['simulated', 'povw'] as const)(
  'a proof of plug-in %s reaches that level; again it says and keeps the same',
  async (plugin) => {
    const blobs = new Blobs();
    const input = await proven(blobs, plugin);
    const first = await verify(blobs, input);
    const record = {
      key: expect.stringMatching(/^proofs\/records\/[0-9a-f]{64}$/),
      sha256: expect.any(String),
      sizeBytes: expect.any(Number),
    };
    expect(first).toEqual({
      verified: true,
      trustLevel: plugin,
      verdicts: [GPU_A, GPU_B].map((gpuUuid) => ({ gpuUuid, verified: true, samplesChecked: 10, record })),
    });
    const kept = [...blobs.objects.keys()];
    expect(await verify(blobs, input)).toEqual(first);
    expect([...blobs.objects.keys()]).toEqual(kept);
  },
);

test('the record is the proof file: openings and all that they are checked against', async () => {
  const blobs = new Blobs();
  const { session, openings } = await proven(blobs);
  const { verdicts } = await verify(blobs, { session, openings });
  const { key, sha256 } = verdicts[0]?.record ?? { key: '', sha256: '' };
  const file = blobs.objects.get(key) ?? Buffer.alloc(0);
  expect(createHash('sha256').update(file).digest('hex')).toBe(sha256);
  expect(file.subarray(0, 7).toString()).toBe('GRAVALP');
  for (const hash of [session.roots?.[GPU_A], session.nonce2, session.walks?.[GPU_A]?.digest])
    expect(file.includes(Buffer.from(hash ?? '', 'hex'))).toBe(true);
  expect(file.subarray(-(blobs.objects.get(openings[GPU_A]?.key ?? '')?.length ?? 0))).toEqual(
    blobs.objects.get(openings[GPU_A]?.key ?? ''),
  );
});

test('a new attempt resumes after the last GPU that was finished', async () => {
  const blobs = new Blobs();
  const input = await proven(blobs);
  const remembered = { gpuUuid: GPU_A, verified: false as const, reason: 'remembered', record: null };
  const environment = new MockActivityEnvironment({ heartbeatDetails: { verdicts: [remembered] } });
  expect(await verify(blobs, input, { environment })).toMatchObject({
    verified: false,
    reason: 'remembered',
    verdicts: [remembered, { gpuUuid: GPU_B, verified: true }],
  });
  expect(blobs.streamed).toEqual([input.openings[GPU_B]?.key]);
});

/** Openings of GPU A replaced by others that were received as they are. */
async function bent(
  bend: (bytes: Buffer, other: Buffer) => Uint8Array | null,
): Promise<{ blobs: Blobs; input: Input }> {
  const blobs = new Blobs();
  const { session, openings } = await proven(blobs);
  const bytesOf = (uuid: string) => blobs.objects.get(openings[uuid]?.key ?? '') ?? Buffer.alloc(0);
  const bytes = bend(bytesOf(GPU_A), bytesOf(GPU_B));
  const { [GPU_A]: _left, ...rest } = openings;
  return {
    blobs,
    input: { session, openings: bytes ? { ...rest, [GPU_A]: await blobs.putByContent('proofs', bytes) } : rest },
  };
}
const AT_MOST = openingsBytesAtMost(PROFILES['tiny-b']);
const flipped = (bytes: Buffer): Buffer => Buffer.from(bytes.map((byte, at) => (at === 0 ? byte ^ 1 : byte)));

test.each<[string, string, boolean, Parameters<typeof bent>[0]]>([
  ['a flipped bit', 'fill_row_not_committed', true, flipped],
  ['a byte short', 'openings_malformed', false, (bytes) => bytes.subarray(1)],
  ['a byte more', 'openings_malformed', false, (bytes) => Buffer.concat([bytes, Buffer.alloc(1)])],
  ['empty', 'openings_malformed', false, () => Buffer.alloc(0)],
  ["the other GPU's", 'fill_row_not_committed', true, (_bytes, other) => other],
  ['missing', 'openings_malformed', false, () => null],
  ['more than its profile can have', 'openings_malformed', false, () => Buffer.alloc(AT_MOST + 1)],
])(
  'openings with %s: refused as a value, kept where they are evidence, and the other GPU still judged',
  async (_, reason, isKept, bend) => {
    const { blobs, input } = await bent(bend);
    const verdict = await verify(blobs, input);
    // Sizes follow from contents: cut or foreign bytes may be refused at an earlier check than that of their length.
    const [mine, other] = verdict.verdicts;
    expect([verdict.verified, mine?.verified, other]).toEqual([
      false,
      false,
      expect.objectContaining({ gpuUuid: GPU_B, verified: true }),
    ]);
    if (mine?.verified === false) expect([reason, 'openings_malformed']).toContain(mine.reason);
    expect(blobs.objects.has(mine?.record?.key ?? '')).toBe(
      isKept && !(mine?.verified === false && mine.reason === 'openings_malformed'),
    );
  },
);

test('of more bytes than a proof of its profile has the verifier keeps and sees none', async () => {
  const { blobs, input } = await bent(() => Buffer.alloc(AT_MOST + 1));
  const checked: number[] = [];
  const verifier: ProofVerifier = {
    name: 'typescript',
    start: () => ({
      verify: async (_challenge, { openings }) => {
        checked.push(openings.length);
        return { verified: true, samplesChecked: 1 };
      },
      close: async () => {},
    }),
  };
  expect(await verify(blobs, input, { verifier })).toMatchObject({ verified: false, reason: 'openings_malformed' });
  expect(checked).toEqual([expect.any(Number)]); // of GPU B
});

test('openings are dropped, and again is no error', async () => {
  const blobs = new Blobs();
  const { openings } = await proven(blobs);
  const keys = Object.values(openings).map(({ key }) => key);
  const { dropOpenings } = createProofVerificationActivities({ blobs });
  for (let run = 0; run < 2; run++) {
    await new MockActivityEnvironment().run(dropOpenings, { keys });
    expect([...blobs.objects.keys()]).toEqual([]);
  }
});

test('bytes that are not the received ones are a fault of the store, not a verdict', async () => {
  const blobs = new Blobs();
  const { session, openings } = await proven(blobs);
  const key = openings[GPU_A]?.key ?? '';
  const lied = { ...openings, [GPU_A]: { key, sha256: '0'.repeat(64) } };
  await expect(verify(blobs, { session, openings: lied })).rejects.toThrow('not the bytes');
  blobs.objects.delete(key);
  await expect(verify(blobs, { session, openings })).rejects.toThrow('not in the store');
});

test('a proof without its steps is refused; plug-in none passes with trust level none', async () => {
  const steps = createProofSessionActivities({
    profileFor: () => {
      throw new Error('plug-in none has no profile');
    },
  });
  const { session, openings } = await proven(new Blobs());
  for (const missing of ['roots', 'nonce2', 'walks', 'samples'] as const) {
    expect(await verify(new Blobs(), { session: { ...session, [missing]: null }, openings })).toMatchObject({
      verified: false,
      reason: 'proof_incomplete',
    });
  }
  expect(await verify(new Blobs(), { session, openings: null })).toMatchObject({ reason: 'proof_incomplete' });
  const none = await steps.beginProof({ ...BEGIN, plugin: 'none' });
  expect(await verify(new Blobs(), { session: none, openings: null })).toEqual({
    verified: true,
    trustLevel: 'none',
    verdicts: [],
  });
});

test.each([
  ['dies by a signal', 'kill -SEGV $$'],
  ['ends as if all were well', 'exit 0'],
  ['ends with the code of a refusal', 'exit 2'],
  ['speaks garbage', 'head -c 6 >/dev/null; head -c 5000 /dev/zero | tr "\\\\0" "\\\\377"'],
  ['answers with an unknown status', 'head -c 6 >/dev/null; printf "\\\\001\\\\000\\\\000\\\\000\\\\143"'],
  [
    'refuses for a reason that does not exist',
    'head -c 6 >/dev/null; printf "\\\\002\\\\000\\\\000\\\\000\\\\007\\\\377"',
  ],
  ['refuses without a reason', 'head -c 6 >/dev/null; printf "\\\\002\\\\000\\\\000\\\\000\\\\007\\\\000"'],
])('a verifier that %s is a failed attempt and no verdict', async (_, body) => {
  const blobs = new Blobs();
  const input = await proven(blobs);
  const binary = await program('broken', body);
  const verifier = gravalVerifier(createGravalClient({ binary }));
  await expect(verify(blobs, input, { verifier })).rejects.toThrow('graval');
  expect([...blobs.objects.keys()].some((key) => key.startsWith('proofs/records/'))).toBe(false);
});

test('a cancelled verification ends its verifier and is no failure of it', async () => {
  const blobs = new Blobs();
  const input = await proven(blobs);
  const environment = new MockActivityEnvironment();
  let closed = 0;
  const hanging: ProofVerifier = {
    name: 'graval',
    start: () => {
      let give = (_err: Error): void => {};
      return {
        verify: () => {
          setImmediate(() => environment.cancel('CANCELLED'));
          return new Promise((_resolve, reject) => (give = reject));
        },
        close: async () => {
          closed += 1;
          give(new Error('graval ended'));
        },
      };
    },
  };
  await expect(verify(blobs, input, { environment, verifier: hanging })).rejects.toMatchObject({
    name: 'CancelledFailure',
  });
  expect(closed).toBeGreaterThan(0);
});

test('a worker checks the version of its verifier when it starts', async () => {
  const other = await program('other', 'echo \'{"proof_version":"povw/0","cuda":false,"devices":[]}\'');
  await expect(chooseVerifier(createGravalClient({ binary: other }))).rejects.toThrow('CANOPY_GRAVAL checks povw/0');
  await expect(chooseVerifier(createGravalClient({ binary: join(dir, 'missing') }))).rejects.toThrow('does not run');
  const same = await program('same', 'echo \'{"proof_version":"povw/2","cuda":false,"devices":[]}\'');
  expect(await chooseVerifier(createGravalClient({ binary: same }))).toMatchObject({
    verifier: { name: 'graval' },
    proofVersion: 'povw/2',
  });
  expect(await chooseVerifier(null)).toMatchObject({ verifier: { name: 'typescript' }, proofVersion: 'povw/2' });
});
