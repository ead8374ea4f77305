import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import { buildGpu } from '../../../infra/dev/build-gpu.ts';
import type { ProofVerdict } from '../../../workflows/domain/proof/plugin.ts';
import { createGravalClient } from '../../clients/graval.ts';
import { createProofVerificationActivities } from './proof-verification-activities.ts';
import { chooseVerifier, TYPESCRIPT_VERIFIER, type ProofVerifier } from './proof-verifier.ts';
import { Blobs, GPU_A, proven } from './testing/proven.ts';

let binary: string;
let native: ProofVerifier;
beforeAll(async () => {
  binary = await buildGpu({ cuda: false });
  ({ verifier: native } = await chooseVerifier(createGravalClient({ binary })));
}, 300_000);

type Proven = Awaited<ReturnType<typeof proven>>;
const verify = (blobs: Blobs, input: Proven, verifier: ProofVerifier) =>
  new MockActivityEnvironment().run(
    createProofVerificationActivities({ blobs, verifier }).verifyProof,
    input,
  ) as Promise<ProofVerdict>;

test('graval and the definition give one verdict and one record, of honest proofs and of each bit changed', async () => {
  expect(native.name).toBe('graval');
  const blobs = new Blobs();
  const honest = await proven(blobs);
  const accepted = await verify(blobs, honest, native);
  expect(accepted).toMatchObject({ verified: true, trustLevel: 'povw' });
  expect(await verify(blobs, honest, TYPESCRIPT_VERIFIER)).toEqual(accepted);
  const bytes = blobs.objects.get(honest.openings[GPU_A]?.key ?? '') ?? Buffer.alloc(0);
  for (let at = 0; at < bytes.length; at += 97) {
    const bent = Buffer.from(bytes);
    bent.writeUInt8(bent.readUInt8(at) ^ (1 << (at % 8)), at);
    const openings = { ...honest.openings, [GPU_A]: await blobs.putByContent('proofs', bent) };
    const [byGraval, byDefinition] = [
      await verify(blobs, { ...honest, openings }, native),
      await verify(blobs, { ...honest, openings }, TYPESCRIPT_VERIFIER),
    ];
    expect({ at, verified: byGraval.verified }).toEqual({ at, verified: false });
    // a changed row can lead to a block whose openings have another size: then the definition sees the size first, and keeps none
    if (!(byDefinition.verified || byDefinition.reason === 'openings_malformed'))
      expect({ at, verdict: byGraval }).toEqual({ at, verdict: byDefinition });
  }
}, 120_000);

test('the recorded file is what `graval verify` reads: exit 0 when accepted, 2 with the reason when refused', async () => {
  const blobs = new Blobs();
  const { session, openings } = await proven(blobs);
  const dir = await mkdtemp(join(tmpdir(), 'canopy-record-'));
  const check = async (input: Proven) => {
    const [verdict] = (await verify(blobs, input, native)).verdicts;
    const file = join(dir, 'proof.graval');
    await writeFile(file, blobs.objects.get(verdict?.record?.key ?? '') ?? '');
    return promisify(execFile)(binary, ['verify', file]).then(
      ({ stdout }) => ({ code: 0, ...JSON.parse(stdout) }) as unknown,
      (err: { code: number; stdout: string }) => ({ code: err.code, ...JSON.parse(err.stdout) }) as unknown,
    );
  };
  try {
    expect(await check({ session, openings })).toMatchObject({ code: 0, verified: true });
    const walks = { ...session.walks, [GPU_A]: { digest: '0'.repeat(64), trace_root: '0'.repeat(64) } };
    expect(await check({ session: { ...session, walks }, openings })).toMatchObject({
      code: 2,
      verified: false,
      reason: 'walk_leaf_not_committed',
    });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}, 60_000);
