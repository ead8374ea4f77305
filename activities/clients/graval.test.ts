import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { execFile } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js';
import { buildGpu } from '../../infra/dev/build-gpu.ts';
import { u32le } from '../../workflows/domain/proof/bytes.ts';
import { drawSamples } from '../../workflows/domain/proof/draw-samples.ts';
import type { PovwChallenge, PovwProfile } from '../../workflows/domain/proof/messages.ts';
import { openingsFromBinary, openingsToBinary } from '../../workflows/domain/proof/openings-binary.ts';
import { seedOf } from '../../workflows/domain/proof/povw-hashes.ts';
import { PROFILES } from '../../workflows/domain/proof/profiles.ts';
import { vectorChallenge } from '../../workflows/domain/proof/proof-vectors.ts';
import { createProver, PLAIN_ENGINE, type ProofEngine } from '../../workflows/domain/proof/prover.ts';
import { verifyOpenings } from '../../workflows/domain/proof/verify-openings.ts';
import { createGravalClient } from './graval.ts';
import { writeProofFile, type GravalVerdict, type RecordedProof } from './graval-proof-file.ts';
import type { GravalSession } from './graval-session.ts';

/** The TypeScript definition and the C++ program give the same bytes and the same verdicts, in both directions. */
let binary: string;
let session: GravalSession;
beforeAll(async () => {
  binary = await buildGpu({ cuda: false });
  session = createGravalClient({ binary }).serve();
}, 300_000);
afterAll(() => session.close());

const random = (round: number, salt = 0): Uint8Array => sha256(new Uint8Array([...u32le(round), ...u32le(salt)]));
const below = (round: number, salt: number, limit: number): number =>
  new DataView(random(round, salt).buffer).getUint32(0, true) % limit;

interface Proven {
  challenge: PovwChallenge;
  proof: RecordedProof;
}

function proveInTypeScript(challenge: PovwChallenge, round: number, engine: Partial<ProofEngine> = {}): Proven {
  const prover = createProver(challenge, { ...PLAIN_ENGINE, ...engine });
  const { root } = prover.commit();
  const nonce2 = random(round, 1);
  const walk = prover.walk(bytesToHex(nonce2));
  const samples = drawSamples(challenge.profile, random(round, 2));
  const openings = prover.open(samples);
  const seed = seedOf(challenge.binding);
  const binaryOpenings = openingsToBinary({ profile: challenge.profile, seed, samples }, openings);
  if (!binaryOpenings) throw new Error('openings without a binary form');
  const [digest, traceRoot] = [hexToBytes(walk.digest), hexToBytes(walk.trace_root)];
  const proof = {
    profile: challenge.profile,
    seed,
    root: hexToBytes(root),
    nonce2,
    digest,
    traceRoot,
    samples,
    openings: binaryOpenings,
  };
  return { challenge, proof };
}

async function proveInCpp({ proof }: Proven): Promise<RecordedProof> {
  const { profile, seed, nonce2, samples } = proof;
  await session.begin({ device: -1, profile, seed });
  const root = await session.commit();
  const walk = await session.walk(nonce2);
  const openings = await session.open(samples);
  await session.end();
  return { ...proof, root, ...walk, openings };
}

function verifyInTypeScript(challenge: PovwChallenge, proof: RecordedProof): GravalVerdict {
  const openings = openingsFromBinary(proof, proof.openings);
  const verdict = verifyOpenings({
    challenge,
    root: bytesToHex(proof.root),
    nonce2: bytesToHex(proof.nonce2),
    walk: { digest: bytesToHex(proof.digest), trace_root: bytesToHex(proof.traceRoot) },
    samples: proof.samples,
    openings,
  });
  return verdict.verified
    ? { verified: true, samplesChecked: verdict.samplesChecked }
    : { verified: false, reason: verdict.reason };
}

/** Small and odd: sizes from 1 up, few blocks, so that every level of every tree is odd somewhere. */
function randomChallenge(round: number): PovwChallenge {
  const at = (salt: number, limit: number) => below(round, 100 + salt, limit);
  const profile: PovwProfile = {
    ...PROFILES['tiny-a'], n: 1 + at(0, 13), k: 1 + at(1, 5), blocks: 2 + at(2, 8), steps: 1 + at(3, 8), fillSamples: 1 + at(4, 4), walkSamples: 2 + at(5, 3),
  }; // prettier-ignore
  const { binding } = vectorChallenge(profile);
  return { profile, binding: { ...binding, validatorNonce: bytesToHex(random(round, 3)) } };
}

test.each(['tiny-a', 'tiny-b'])('the program computes the published vectors of %s', async (name) => {
  const file = new URL(`../../gpu/test/vectors/${name}.json`, import.meta.url);
  const vectors = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown> & {
    seed: string;
    nonce2: string;
    challenge: PovwChallenge;
  };
  const { n, k, blocks, steps } = vectors.challenge.profile;
  const options = Object.entries({ seed: vectors.seed, nonce2: vectors.nonce2, n, k, blocks, steps }).flatMap(
    ([option, value]) => [`--${option}`, String(value)],
  );
  const { stdout } = await promisify(execFile)(binary, ['vectors', ...options]);
  const { challenge: _challenge, samples: _samples, openings: _openings, ...expected } = vectors;
  expect(JSON.parse(stdout)).toEqual(expected);
});

test('1,000 random instances: the same bytes from both provers, accepted by both verifiers', async () => {
  for (let round = 0; round < 1000; round++) {
    const challenge = randomChallenge(round);
    const proven = proveInTypeScript(challenge, round);
    const inCpp = await proveInCpp(proven);
    if (
      Buffer.compare(inCpp.openings, proven.proof.openings) !== 0 ||
      Buffer.compare(inCpp.root, proven.proof.root) !== 0
    )
      throw new Error(`the provers differ in round ${round}: ${JSON.stringify(challenge.profile)}`);
    const verdicts = [await session.verify(proven.proof), verifyInTypeScript(challenge, inCpp)];
    const samplesChecked = challenge.profile.fillSamples + challenge.profile.walkSamples;
    expect({ round, verdicts }).toEqual({
      round,
      verdicts: [
        { verified: true, samplesChecked },
        { verified: true, samplesChecked },
      ],
    });
  }
}, 120_000);

test('proofs changed at random: both verifiers refuse, for the same reason', async () => {
  for (let round = 0; round < 300; round++) {
    const { challenge, proof } = proveInTypeScript(randomChallenge(round), round);
    const openings = Uint8Array.from(proof.openings);
    const at = below(round, 50, openings.length);
    openings[at] = (openings[at] ?? 0) ^ (1 << below(round, 51, 8));
    const changed = { ...proof, openings };
    const [cpp, typeScript] = [await session.verify(changed), verifyInTypeScript(challenge, changed)];
    expect({ round, verified: cpp.verified }).toEqual({ round, verified: false });
    // a changed row can lead to another partner: there the binary form may come out longer or shorter than what is there
    if (openingsFromBinary(proof, openings)) expect({ round, verdict: cpp }).toEqual({ round, verdict: typeScript });
  }
}, 60_000);

const junk = (length: number, at: number): Int8Array =>
  Int8Array.from({ length }, (_, index) => ((index * 37 + at) % 251) - 125);
const all = { ...PROFILES['tiny-b'], fillSamples: 64, walkSamples: 64 };
const over = (change: Partial<RecordedProof>) => (proof: RecordedProof) => ({ ...proof, ...change });
const last = (bytes: Uint8Array, fromEnd: number): Uint8Array =>
  Uint8Array.from(bytes, (byte, at) => (at === bytes.length - fromEnd ? byte ^ 1 : byte));

test.each<[string, Partial<ProofEngine>, (proof: RecordedProof) => RecordedProof]>([
  ['challenge_malformed', {}, over({ profile: { ...all, n: 200_000 } })],
  [
    'samples_malformed',
    {},
    (proof) => ({
      ...proof,
      samples: { ...proof.samples, fill: proof.samples.fill.map((index) => ({ ...index, block: 7 })) },
    }),
  ],
  ['openings_malformed', {}, (proof) => ({ ...proof, openings: proof.openings.slice(0, -1) })],
  ['fill_row_not_committed', {}, over({ root: random(1) })],
  ['fill_seed_block_differs', {}, over({ seed: random(1) })],
  ['fill_entry_differs', { multiply: (_left, _right, i, n) => junk(n * n, i) }, over({})],
  ['walk_leaf_not_committed', {}, over({ traceRoot: random(1) })],
  ['walk_start_differs', {}, over({ nonce2: random(1) })],
  ['walk_digest_differs', {}, over({ digest: random(1) })],
  ['walk_row_not_committed', {}, (proof) => ({ ...proof, openings: last(proof.openings, 1) })],
  ['walk_entry_differs', { step: (_block, _x, t, n, k) => junk(n * k, t) }, over({})],
])('%s is found by the program', async (reason, engine, change) => {
  const challenge = vectorChallenge(all);
  const changed = change(proveInTypeScript(challenge, 7, engine).proof);
  const found = await createGravalClient({ binary }).verify(changed);
  expect(found).toEqual({ verified: false, reason });
  expect(await session.verify(changed)).toEqual(found);
  // what only the binding tells TypeScript cannot be changed in the file alone
  if (!['challenge_malformed', 'fill_seed_block_differs'].includes(reason))
    expect(verifyInTypeScript(challenge, changed)).toEqual(found);
});

test('graval verify tells a person what was checked, and a program the verdict', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'graval-'));
  const verify = async (file: Uint8Array, ...options: string[]) => {
    await writeFile(join(dir, 'proof'), file);
    const asked = promisify(execFile)(binary, ['verify', join(dir, 'proof'), ...options]);
    return asked.then(
      ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
      ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({ code, stdout, stderr }),
    );
  };
  try {
    const { proof } = proveInTypeScript(vectorChallenge(PROFILES['tiny-b']), 11);
    const file = writeProofFile(proof);
    const holds = await verify(file);
    expect(holds).toMatchObject({ code: 0, stdout: '{"verified":true,"samples":10}\n' });
    expect(holds.stderr).toContain('n = 12, k = 3, 7 blocks');
    expect(holds.stderr).toContain(`S         ${bytesToHex(proof.seed)}`);
    expect(holds.stderr).toContain('verdict   holds: every sampled entry');
    expect(await verify(file, '--json')).toEqual({ code: 0, stdout: holds.stdout, stderr: '' });
    const refused = await verify(last(file, 1));
    expect(refused).toMatchObject({ code: 2, stdout: '{"verified":false,"reason":"walk_row_not_committed"}\n' });
    expect(refused.stderr).toContain('verdict   walk_row_not_committed: a row of the block');
    const older = await verify(Uint8Array.from(file, (byte, at) => (at === 7 ? 0x31 : byte)));
    expect(older).toMatchObject({ code: 64, stdout: '' });
    expect(older.stderr).toContain('is no proof file of povw/2');
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

test('a process that crashes or writes nonsense is an error of the attempt, not of the caller', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'graval-'));
  const script = async (name: string, body: string): Promise<string> => {
    const file = join(dir, name);
    await writeFile(file, `#!/bin/sh\n${body}\n`);
    await chmod(file, 0o755);
    return file;
  };
  const { proof } = proveInTypeScript(vectorChallenge(PROFILES['tiny-a']), 8);
  try {
    for (const body of [
      'kill -SEGV $$',
      'echo "{\\"verified\\":true}"',
      'head -c 6 >/dev/null; echo nonsense',
      'exit 2',
      'head -c 6 >/dev/null; head -c 5000000 /dev/zero',
    ]) {
      const broken = createGravalClient({ binary: await script('broken', body) });
      await expect(broken.verify(proof)).rejects.toThrow('graval');
      await expect(broken.info()).rejects.toThrow('graval');
      const serving = broken.serve();
      await expect(serving.commit()).rejects.toThrow('graval');
      await expect(serving.commit()).rejects.toThrow('graval');
      await serving.close();
    }
    await expect(createGravalClient({ binary: join(dir, 'missing') }).verify(proof)).rejects.toThrow('does not run');
    await expect(
      createGravalClient({ binary: join(dir, 'missing') })
        .serve()
        .commit(),
    ).rejects.toThrow('does not run');
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});

test('an aborted verification ends the process; info tells what the build can do', async () => {
  const client = createGravalClient({ binary });
  const { proof } = proveInTypeScript(vectorChallenge(PROFILES['tiny-a']), 9);
  await expect(client.verify(proof, AbortSignal.abort())).rejects.toThrow('abort');
  expect(await client.info()).toEqual({ proofVersion: 'povw/2', cuda: false, devices: [] });
});

test('steps out of order and impossible sizes are refused by status, and the session goes on', async () => {
  const { proof } = proveInTypeScript(vectorChallenge(PROFILES['tiny-a']), 10);
  await expect(session.commit()).rejects.toThrow('out_of_order');
  await expect(session.begin({ device: 5, profile: proof.profile, seed: proof.seed })).rejects.toThrow('no_device');
  const huge = { ...proof.profile, n: 131_072, blocks: 65_536 };
  await expect(session.begin({ device: -1, profile: huge, seed: proof.seed })).rejects.toThrow('out_of_memory');
  await expect(session.begin({ device: -1, profile: { ...proof.profile, n: 0 }, seed: proof.seed })).rejects.toThrow(
    'invalid_argument',
  );
  await session.selftest(-1);
  expect(await session.verify(proof)).toMatchObject({ verified: true });
});
