import { writeFile } from 'node:fs/promises';
import { findProverEngine } from '../../activities/clients/prover-engine.ts';
import { buildGpu } from './build-gpu.ts';

export interface NativeProver {
  /** path of `graval`; null: TypeScript proves */
  graval: string | null;
  /** one line for the operator */
  why: string;
}

export interface PrepareProver {
  /** false: asked not to */
  native: boolean;
  toolsDir: string;
  /** takes what the compiler said when it failed */
  logFile: string;
}

/** The CPU build of `graval`, made once for these sources where a compiler is there. Without it the network proves in TypeScript. */
export async function prepareProver({ native, toolsDir, logFile }: PrepareProver): Promise<NativeProver> {
  if (!native) return { graval: null, why: 'TypeScript, as asked for with --no-native' };
  const startedAt = performance.now();
  let built = '';
  const report = () => void (built = 'built');
  try {
    const graval = await buildGpu({ cuda: false, toolsDir, report });
    await findProverEngine(graval); // it runs, and proves the same version
    if (built) built = `, built in ${((performance.now() - startedAt) / 1000).toFixed(1)} s`;
    return { graval, why: `graval (CPU reference)${built}` };
  } catch (err) {
    const message = (err as Error).message;
    const [first = '', ...more] = message.split('\n');
    if (more.length > 0) await writeFile(logFile, `${message}\n`);
    return { graval: null, why: `TypeScript: ${first}${more.length > 0 ? ` ${logFile}` : ''}` };
  }
}
