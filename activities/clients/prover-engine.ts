import { PROOF_VERSION } from '../../workflows/domain/proof/povw-hashes.ts';
import { createGravalClient, type GravalDevice } from './graval.ts';
import type { ProverPlace } from './gpu-prover.ts';

/** What proves on this machine: `graval` where it was given, else TypeScript. */
export interface ProverEngine {
  /** the GPUs that graval can use; simulated ones are never among them */
  devices: readonly GravalDevice[];
  /** where the GPU of this uuid (32 lower-case hex) proves */
  placeOf: (gpuUuid: string) => ProverPlace;
}

export const TYPESCRIPT_ENGINE: ProverEngine = { devices: [], placeOf: () => ({ graval: null, device: -1 }) };

/** Throws what to do when the program named does not run or proves another version: that would fail every launch. */
export async function findProverEngine(graval: string | null): Promise<ProverEngine> {
  if (graval === null) return TYPESCRIPT_ENGINE;
  const { proofVersion, devices } = await createGravalClient({ binary: graval })
    .info()
    .catch((err: unknown) => {
      throw new Error(`CANOPY_GRAVAL: ${(err as Error).message}; without it TypeScript proves`, { cause: err });
    });
  if (proofVersion !== PROOF_VERSION) {
    throw new Error(
      `CANOPY_GRAVAL: ${graval} speaks ${proofVersion}, not ${PROOF_VERSION}: build it again (npm run build:gpu)`,
    );
  }
  const indices = new Map(devices.map(({ uuid, index }) => [uuid, index]));
  return { devices, placeOf: (gpuUuid) => ({ graval, device: indices.get(gpuUuid) ?? -1 }) };
}

/** For people: logs, `/status`, the tour. */
export type ProverName = 'TypeScript' | 'graval (CPU reference)' | 'graval (GPU)';
export const proverName = ({ graval, device }: ProverPlace): ProverName =>
  graval === null ? 'TypeScript' : device < 0 ? 'graval (CPU reference)' : 'graval (GPU)';
