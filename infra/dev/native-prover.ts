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
  /** default: the checkout's own, whatever the data directory: one build for these sources */
  toolsDir?: string;
  /** takes what the compiler said when it failed */
  logFile: string;
}

/** The CPU build of `graval`, made once for these sources where a compiler is there. Without it the network proves in TypeScript. */
export async function prepareProver({ native, toolsDir, logFile }: PrepareProver): Promise<NativeProver> {
  if (!native) return { graval: null, why: 'TypeScript, as asked for with --no-native' };
  const startedAt = performance.now();
  const reports: string[] = [];
  try {
    const graval = await buildGpu({
      cuda: false,
      report: (message) => void reports.push(message),
      ...(toolsDir === undefined ? {} : { toolsDir }),
    });
    await findProverEngine(graval); // it runs, and proves the same version
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    return { graval, why: `graval (CPU reference)${reports.length > 0 ? `, built in ${seconds} s` : ''}` };
  } catch (err) {
    const message = (err as Error).message;
    const [first = '', ...more] = message.split('\n');
    if (more.length === 0) return { graval: null, why: `TypeScript: ${first}` };
    await writeFile(logFile, `${message}\n`);
    return { graval: null, why: `TypeScript: ${first.replace(/:$/, '')}; what it said is in ${logFile}` };
  }
}
