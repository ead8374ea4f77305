import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { drawSamples } from '../../workflows/domain/proof/draw-samples.ts';
import { openingsFromBinary } from '../../workflows/domain/proof/openings-binary.ts';
import { seedOf } from '../../workflows/domain/proof/povw-hashes.ts';
import { PROFILES } from '../../workflows/domain/proof/profiles.ts';
import { vectorChallenge } from '../../workflows/domain/proof/proof-vectors.ts';
import { verifyOpenings } from '../../workflows/domain/proof/verify-openings.ts';
import { whyNotProvable } from './gpu-prover.ts';
import { startGpuProver } from './start-gpu-prover.ts';
import { findProverEngine, proverName, TYPESCRIPT_ENGINE } from './prover-engine.ts';

let dir: string;
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'canopy-prover-'))));
afterAll(() => rm(dir, { recursive: true, force: true }));

/** A program in graval's place. */
async function script(body: string): Promise<string> {
  const file = join(dir, `${Math.random()}`);
  await writeFile(file, `#!/bin/sh\n${body}\n`);
  await chmod(file, 0o755);
  return file;
}

const TYPESCRIPT = { graval: null, device: -1 };
const NONCE2 = '44'.repeat(32);
const samples = drawSamples(PROFILES['tiny-b'], new Uint8Array(32).fill(3));

test('TypeScript proves on a thread, its openings are binary, and asked again they are the same', async () => {
  const challenge = vectorChallenge(PROFILES['tiny-b']);
  const prover = startGpuProver(challenge, TYPESCRIPT);
  try {
    const root = await prover.commit();
    const walk = await prover.walk(NONCE2);
    const [bytes, again] = await Promise.all([prover.open(samples), prover.open(samples)]);
    expect(Buffer.compare(bytes, again)).toBe(0);
    const by = { profile: challenge.profile, seed: seedOf(challenge.binding), samples };
    const openings = openingsFromBinary(by, bytes);
    const verdict = verifyOpenings({ challenge, root, nonce2: NONCE2, walk, samples, openings });
    expect(verdict).toMatchObject({ verified: true });
  } finally {
    await prover.close();
  }
});

test.each([TYPESCRIPT, { graval: 'serve', device: -1 }])(
  'a prover that is closed rejects what is under way and what comes after: %j',
  async ({ graval, device }) => {
    const busy = vectorChallenge({ ...PROFILES['cpu-dev'], n: 512, blocks: 30 });
    const prover = startGpuProver(busy, { graval: graval && (await script('exec sleep 600')), device });
    const commit = prover.commit().then(() => 'done', String);
    await prover.close();
    await prover.close();
    expect(await commit).toMatch(/^Error: commit by GPU [0-9a-f]{32} failed: .+ ended/);
    await expect(prover.walk(NONCE2)).rejects.toThrow('ended');
  },
);

test.each(['kill -SEGV $$', 'exit 1', 'cat >/dev/null & echo nonsense; wait'])(
  'a graval that does %s is a rejected step, not a crashed program',
  async (body) => {
    const prover = startGpuProver(vectorChallenge(PROFILES['tiny-a']), { graval: await script(body), device: 0 });
    await expect(prover.commit()).rejects.toThrow(/^commit by GPU [0-9a-f]{32} failed: graval serve/);
    await prover.close();
  },
);

test('steps out of order are refused', async () => {
  const prover = startGpuProver(vectorChallenge(PROFILES['tiny-b']), TYPESCRIPT);
  await expect(prover.open(samples)).rejects.toThrow('open comes after walk');
  await prover.close();
});

test('a CPU takes on what claims no memory; more says what it takes; nothing malformed is taken on', () => {
  const small = vectorChallenge(PROFILES['cpu-dev']);
  const real = vectorChallenge({ ...PROFILES['cpu-dev'], name: 'h100', n: 16_384, k: 256, blocks: 284, steps: 5680 });
  const malformed = vectorChallenge({ ...PROFILES['cpu-dev'], n: 0 });
  const cpu = { graval: '/graval', device: -1 };
  const gpu = { graval: '/graval', device: 0 };
  const answers = [small, real, malformed].map((challenge) =>
    [TYPESCRIPT, cpu, gpu].map((place) => whyNotProvable(challenge, place)),
  );
  expect(answers).toEqual([
    [null, null, null],
    [expect.stringMatching(/profile h100 .+ build graval/), expect.stringMatching(/sees no GPU .+ CUDA build/), null],
    ['the challenge is malformed', 'the challenge is malformed', 'the challenge is malformed'],
  ]);
  expect(() => startGpuProver(real, TYPESCRIPT)).toThrow('CANOPY_GRAVAL');
});

const info = (version: string) =>
  script(
    `echo '${JSON.stringify({
      proof_version: version,
      cuda: true,
      devices: [
        { index: 3, name: 'NVIDIA L4', uuid: 'b'.repeat(32), memory_bytes: 1, processors: 1, clock_khz: 1, major: 8, minor: 9, max_threads_per_processor: 1536 },
      ],
    })}'`,
  ); // prettier-ignore

test('the GPU is the one whose uuid is in the challenge; any other is the CPU', async () => {
  const engine = await findProverEngine(await info('povw/2'));
  expect(['b', 'c'].map((digit) => engine.placeOf(digit.repeat(32)).device)).toEqual([3, -1]);
  expect(['b', 'c'].map((digit) => proverName(engine.placeOf(digit.repeat(32))))).toEqual([
    'graval (GPU)',
    'graval (CPU reference)',
  ]);
  expect(await findProverEngine(null)).toBe(TYPESCRIPT_ENGINE);
  expect(proverName(TYPESCRIPT_ENGINE.placeOf('b'.repeat(32)))).toBe('TypeScript');
});

test('a graval of another version, or none at all, is said at start', async () => {
  await expect(findProverEngine(await info('povw/1'))).rejects.toThrow(/speaks povw\/1, not povw\/2: build it again/);
  await expect(findProverEngine(join(dir, 'missing'))).rejects.toThrow(/^CANOPY_GRAVAL: .+ does not run/);
});
