/**
 * The program `graval` measured and compared. `node bench/proof-native.ts`: the verifier at 80 GB size (docs/proof.md
 * "Measurements"), as JSON on stdout. `compareProvers` is what `npm run test:gpu` asks of a device.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js';
import type { GravalClient } from '../activities/clients/graval.ts';
import type { GravalSamples, RecordedProof } from '../activities/clients/graval-proof-file.ts';
import { buildGpu } from '../infra/dev/build-gpu.ts';
import { u32le } from '../workflows/domain/proof/bytes.ts';
import { drawSamples } from '../workflows/domain/proof/draw-samples.ts';
import type { PovwChallenge, PovwProfile } from '../workflows/domain/proof/messages.ts';
import { PROFILES } from '../workflows/domain/proof/profiles.ts';

const random = (round: number, salt: number): Uint8Array => sha256(new Uint8Array([...u32le(round), ...u32le(salt)]));

/** Throws at the first instance in which the device and the CPU reference differ in any byte, or the verifier says no. */
export async function compareProvers(input: {
  client: GravalClient;
  device: number;
  rounds: number;
}): Promise<{ instances: number }> {
  const session = input.client.serve();
  let instances = 0;
  const prove = async (
    device: number,
    profile: PovwProfile,
    seed: Uint8Array,
    nonce2: Uint8Array,
    samples: GravalSamples,
  ): Promise<RecordedProof> => {
    await session.begin({ device, profile, seed });
    const root = await session.commit();
    const walk = await session.walk(nonce2);
    const openings = await session.open(samples);
    await session.end();
    return { profile, seed, root, nonce2, ...walk, samples, openings };
  };
  const compare = async (
    profile: PovwProfile,
    seed: Uint8Array,
    nonce2: Uint8Array,
    samples: GravalSamples,
    published?: Record<string, string>,
  ) => {
    const [found, expected] = [
      await prove(input.device, profile, seed, nonce2, samples),
      await prove(-1, profile, seed, nonce2, samples),
    ];
    for (const part of ['root', 'digest', 'traceRoot', 'openings'] as const) {
      if (Buffer.compare(found[part], expected[part]) !== 0)
        throw new Error(`${part} differs from the reference: ${JSON.stringify(profile)}`);
      const hex = published?.[part];
      if (hex !== undefined && hex !== bytesToHex(found[part]))
        throw new Error(`${part} differs from the published vector of ${profile.name}`);
    }
    const verdict = await session.verify(found);
    if (!verdict.verified) throw new Error(`the verifier refuses the device's proof: ${verdict.reason}`);
    instances++;
  };
  try {
    for (const name of ['tiny-a', 'tiny-b']) {
      const text = await readFile(new URL(`../gpu/test/vectors/${name}.json`, import.meta.url), 'utf8');
      const vectors = JSON.parse(text) as {
        challenge: PovwChallenge;
        seed: string;
        nonce2: string;
        root: string;
        digest: string;
        trace_root: string;
        samples: GravalSamples;
      };
      const { root, digest, trace_root: traceRoot } = vectors;
      await compare(vectors.challenge.profile, hexToBytes(vectors.seed), hexToBytes(vectors.nonce2), vectors.samples, {
        root,
        digest,
        traceRoot,
      });
    }
    for (let round = 0; round < input.rounds; round++) {
      const profile = randomProfile(round);
      await compare(profile, random(round, 1), random(round, 2), drawSamples(profile, random(round, 3)));
    }
  } finally {
    await session.close();
  }
  return { instances };
}

/** Mostly tiny; every tenth reaches past the edges of a device's tiles and chunks. */
function randomProfile(round: number): PovwProfile {
  const at = (salt: number, limit: number) => new DataView(random(round, 50 + salt).buffer).getUint32(0, true) % limit;
  const [edge, width, steps] = round % 10 === 0 ? [300, 150, 80] : [40, 9, 20];
  return { ...PROFILES['tiny-a'], n: 1 + at(0, edge), k: 1 + at(1, width), blocks: 2 + at(2, 8), steps: 1 + at(3, steps), fillSamples: 1 + at(4, 6), walkSamples: 2 + at(5, 6) }; // prettier-ignore
}

if (import.meta.main) {
  const binary = await buildGpu({ cuda: false, report: (message) => void process.stderr.write(`${message}\n`) });
  const { stdout } = await promisify(execFile)(binary, ['bench', '--verify', ...process.argv.slice(2)]);
  process.stdout.write(stdout);
}
