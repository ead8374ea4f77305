import { concatBytes, u32le } from '../../workflows/domain/proof/bytes.ts';
import type { FillSampleIndex, PovwProfile, WalkSampleIndex } from '../../workflows/domain/proof/messages.ts';

/** What `graval` and its callers exchange (docs/proof.md "Proof file"). */

/** The process crashed, does not speak its protocol, or could not do what was asked: a failed attempt. */
export class GravalError extends Error {
  override readonly name = 'GravalError';
}

export type GravalProfile = Pick<PovwProfile, 'n' | 'k' | 'blocks' | 'steps' | 'fillSamples' | 'walkSamples'>;
export interface GravalSamples {
  fill: readonly FillSampleIndex[];
  walk: readonly WalkSampleIndex[];
}

/** A whole recorded proof of one GPU. Hashes are 32 bytes; openings in their binary form (`openings-binary.ts`). */
export interface RecordedProof {
  profile: GravalProfile;
  /** S (`seedOf`) */
  seed: Uint8Array;
  root: Uint8Array;
  nonce2: Uint8Array;
  digest: Uint8Array;
  traceRoot: Uint8Array;
  samples: GravalSamples;
  openings: Uint8Array;
}

/** `reason` is a `ProofFault` (docs/proof.md "What is checked"). */
export type GravalVerdict = { verified: true; samplesChecked: number } | { verified: false; reason: string };

/** docs/proof.md "Proof file": what `graval verify` reads. */
export function writeProofFile(proof: RecordedProof): Uint8Array {
  const hashes = [proof.seed, proof.root, proof.nonce2, proof.digest, proof.traceRoot];
  if (hashes.some((hash) => hash.length !== 32)) throw new GravalError('a hash of the proof is not 32 bytes');
  return concatBytes(
    new TextEncoder().encode('GRAVALP2'),
    profileBytes(proof.profile),
    ...hashes,
    samplesBytes(proof.samples),
    proof.openings,
  );
}

export function profileBytes({ n, k, blocks, steps, fillSamples, walkSamples }: GravalProfile): Uint8Array {
  return concatBytes(...[n, k, blocks, steps, fillSamples, walkSamples].map(u32le));
}
export function samplesBytes({ fill, walk }: GravalSamples): Uint8Array {
  return concatBytes(
    ...fill.flatMap(({ block, row, column }) => [block, row, column].map(u32le)),
    ...walk.flatMap(({ step, row, column }) => [step, row, column].map(u32le)),
  );
}
