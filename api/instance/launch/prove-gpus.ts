import { forEachGpu, type GpuProver } from '../../../activities/clients/gpu-prover.ts';
import { startGpuProver } from '../../../activities/clients/start-gpu-prover.ts';
import type { ProverEngine } from '../../../activities/clients/prover-engine.ts';
import type { PovwChallenge } from '../../../workflows/domain/proof/messages.ts';
import type { LaunchClient } from './launch-client.ts';

/** Each is up to 16 MiB of memory and a request of its own; more at once would not be faster on one link. */
const OPENINGS_AT_ONCE = 2;

export interface ProveGpus {
  client: Pick<LaunchClient, 'commit' | 'walk' | 'putOpenings'>;
  challenges: readonly PovwChallenge[];
  engine: ProverEngine;
  /** Unix ms */
  deadlineAt: number;
  /** aborted: the GPUs are free at once, and the step under way fails */
  signal: AbortSignal;
}

export interface ProvenGpus {
  nonce2: string;
  proofs: { gpuUuid: string; root: string; digest: string }[];
  /** by GPU uuid, SHA-256 of what the validator took */
  openings: Record<string, string>;
}

/** All GPUs fill and walk simultaneously, then open a few at a time. Leaves no memory filled, however it ends. */
export async function proveGpus({ client, challenges, engine, deadlineAt, signal }: ProveGpus): Promise<ProvenGpus> {
  signal.throwIfAborted();
  const provers = new Map<string, GpuProver>();
  const closeAll = () => Promise.all([...provers.values()].map((prover) => prover.close()));
  const onAbort = () => void closeAll();
  signal.addEventListener('abort', onAbort);
  try {
    for (const challenge of challenges) {
      const { gpuUuid } = challenge.binding;
      provers.set(gpuUuid, startGpuProver(challenge, engine.placeOf(gpuUuid)));
    }
    const roots = await forEachGpu(provers, (prover) => prover.commit());
    const { nonce2 } = await client.commit({ roots }, deadlineAt);
    const walks = await forEachGpu(provers, (prover) => prover.walk(nonce2));
    const { samples } = await client.walk({ walks }, deadlineAt);
    const openings: Record<string, string> = {};
    const left = [...provers];
    const openNext = async (): Promise<void> => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        const [gpuUuid, prover] = next;
        const bytes = await prover.open(samples[gpuUuid] ?? { fill: [], walk: [] });
        openings[gpuUuid] = await client.putOpenings(gpuUuid, bytes, deadlineAt);
      }
    };
    await Promise.all(Array.from({ length: OPENINGS_AT_ONCE }, openNext));
    const proofs = Object.entries(walks).map(([gpuUuid, { digest }]) => ({
      gpuUuid,
      root: roots[gpuUuid] ?? '',
      digest,
    }));
    return { nonce2, proofs, openings };
  } finally {
    signal.removeEventListener('abort', onAbort);
    await closeAll();
  }
}
