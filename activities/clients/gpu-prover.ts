import type { FillSampleIndex, PovwChallenge, WalkSampleIndex } from '../../workflows/domain/proof/messages.ts';
import { isSoundBinding, isSoundProfile } from '../../workflows/domain/proof/povw-hashes.ts';

/**
 * One GPU's side of a proof, one step at a time in the order commit, walk, open. It holds the memory it filled until it is
 * closed. A prover that crashes is a rejected step, of this and every later one; the program goes on.
 */
export interface GpuProver {
  /** fills the memory; R as 64 hex */
  commit: () => Promise<string>;
  /** `nonce2` is 64 hex; D and W as hex */
  walk: (nonce2: string) => Promise<{ digest: string; trace_root: string }>;
  /** docs/proof.md "Binary openings"; asked again with the same samples, the same bytes */
  open: (samples: ProofSamples) => Promise<Uint8Array>;
  /** Frees the memory, whatever it is doing; a step under way is rejected. Safe to call twice. */
  close: () => Promise<void>;
}

export interface ProofSamples {
  fill: FillSampleIndex[];
  walk: WalkSampleIndex[];
}

export interface ProverPlace {
  /** path of the program `graval`; null: TypeScript proves */
  graval: string | null;
  /** graval's index of the GPU; −1: the CPU */
  device: number;
}

/** Memory and arithmetic a CPU takes on: what claims no memory, as `cpu-dev`. More is for GPUs, and never done quietly without. */
const CPU_FILL_BYTES = 2 ** 28;
const CPU_OPERATIONS = 2 ** 33;

/** Why this challenge is not taken on here and what would change that, or null. */
export function whyNotProvable({ binding, profile }: PovwChallenge, { graval, device }: ProverPlace): string | null {
  if (!isSoundProfile(profile) || !isSoundBinding(binding)) return 'the challenge is malformed';
  if (device >= 0) return null;
  const { n, k, blocks, steps } = profile;
  const bytes = n ** 2 * blocks + n * k * (steps + 1);
  const operations = n ** 3 * blocks + n ** 2 * k * steps;
  if (bytes <= CPU_FILL_BYTES && operations <= CPU_OPERATIONS) return null;
  const remedy =
    graval === null
      ? 'build graval (npm run build:gpu) and name it in CANOPY_GRAVAL'
      : `graval sees no GPU ${binding.gpuUuid}: it takes the CUDA build (npm run build:gpu) and the driver`;
  return `profile ${profile.name} is for a GPU, not for a CPU: ${remedy}`;
}

/** One step on all of them at once; by GPU uuid. */
export async function forEachGpu<Answer>(
  provers: ReadonlyMap<string, GpuProver>,
  step: (prover: GpuProver) => Promise<Answer>,
): Promise<Record<string, Answer>> {
  return Object.fromEntries(
    await Promise.all([...provers].map(async ([uuid, prover]) => [uuid, await step(prover)] as const)),
  );
}
