import { drawSamples } from './draw-samples.ts';
import type { PovwChallenge, PovwProfile } from './messages.ts';
import { fillTweak, prg, q, walkTweak } from './povw-arithmetic.ts';
import { partnerBlock, seedOf, toHex } from './povw-hashes.ts';
import { createProver } from './prover.ts';

const VECTOR_NONCE_2 = '5a'.repeat(32);

export const vectorChallenge = (profile: PovwProfile): PovwChallenge => ({
  binding: {
    validatorNonce: '00112233445566778899aabbccddeeff'.repeat(2),
    configId: '6f9619ff-8b86-4d01-b42d-00c04fc964ff',
    minerHotkey: '5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY',
    gpuUuid: 'c0ffee00c0ffee00c0ffee00c0ffee00',
    gpuType: 'h100_sxm',
    vramBytes: 85_899_345_920,
    transportPublicKey: '0'.repeat(64),
  },
  profile,
});

/** The published answers of one profile, in the order an implementation meets them: `gpu/test/vectors/<profile>.json`. */
export function proofVectors(profile: PovwProfile) {
  const challenge = vectorChallenge(profile);
  const seed = seedOf(challenge.binding);
  const prover = createProver(challenge);
  const commit = prover.commit();
  const walk = prover.walk(VECTOR_NONCE_2);
  const samples = drawSamples(profile, new Uint8Array(32).fill(7));
  return {
    challenge,
    seed: toHex(seed),
    prg: [0, 60, 64, 1000].map((offset) => ({ offset, entries: Array.from(prg(seed, offset, 16)) })),
    q: [
      [0, 0, 0, 0],
      [1, 2, 3, 4],
      [-1, 4, 7, 7],
      [2_114_060_288, 9, 11, 13],
      [-2_114_060_288, 65_535, 8191, 8191],
    ].map(([sum = 0, block = 0, row = 0, column = 0]) => ({
      sum,
      block,
      row,
      column,
      fill_tweak: fillTweak(block, row, column) >>> 0,
      fill: q(sum, fillTweak(block, row, column)),
      walk_tweak: walkTweak(block, row, column) >>> 0,
      walk: q(sum, walkTweak(block, row, column)),
    })),
    partner: [2, 3, 60].map((block) => ({
      block,
      previous_root: 'ab'.repeat(32),
      j: partnerBlock(seed, block, new Uint8Array(32).fill(0xab)),
    })),
    root: commit.root,
    nonce2: VECTOR_NONCE_2,
    digest: walk.digest,
    trace_root: walk.trace_root,
    samples,
    openings: prover.open(samples),
  };
}
