/** Shapes of the open proof of GPU work (spec/sdk-and-runtime.md §5.7); all bytes are lower-case hex unless said. */
import type { FillOpening, WalkOpening } from './povw-openings.ts';

/** Trust levels a launch or node can reach (spec/sdk-and-runtime.md §5.8). Production refuses the first two. */
export const TRUST_LEVELS = ['none', 'simulated', 'povw', 'graval-legacy', 'attested'] as const;
export type TrustLevel = (typeof TRUST_LEVELS)[number];
export const isTrustedInProduction = (level: TrustLevel): boolean => TRUST_LEVELS.indexOf(level) >= 2;

/** Block edge n, M blocks, x of width k, T steps; limits in milliseconds for one GPU. */
export interface PovwProfile {
  name: string;
  n: number;
  k: number;
  blocks: number;
  steps: number;
  fillSamples: number;
  walkSamples: number;
  fillLimitMs: number;
  walkLimitMs: number;
}

/** All that S binds: S = H("povw/2" ‖ validator nonce ‖ config id ‖ miner ‖ gpu uuid ‖ type ‖ V ‖ transport key). */
export interface PovwBinding {
  validatorNonce: string;
  /** the launch config's id, or the verification task's id for a node */
  configId: string;
  minerHotkey: string;
  gpuUuid: string;
  gpuType: string;
  vramBytes: number;
  /** X25519 public key of the instance; for nodes 64 zeros */
  transportPublicKey: string;
}

export interface PovwChallenge {
  binding: PovwBinding;
  profile: PovwProfile;
}
export interface FillSampleIndex {
  block: number;
  row: number;
  column: number;
}
export interface WalkSampleIndex {
  step: number;
  row: number;
  column: number;
}

/** A Merkle path: sibling hashes from the leaf up. */
export type MerklePath = string[];

/** Rows and columns are base64 of int8 bytes; one entry per sample, in the order of the samples (`povw-openings.ts`). */
export interface GpuOpenings {
  fill: FillOpening[];
  walk: WalkOpening[];
}

/** What a verifier says of one GPU. `reason` is a code a person can look up in docs/proof.md. */
export type GpuVerdict =
  | { gpuUuid: string; verified: true; samplesChecked: number }
  | { gpuUuid: string; verified: false; reason: string };
