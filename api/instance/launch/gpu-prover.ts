import { Worker } from 'node:worker_threads';
import type {
  FillSampleIndex,
  GpuOpenings,
  PovwChallenge,
  WalkSampleIndex,
} from '../../../workflows/domain/proof/messages.ts';

export interface Samples {
  fill: FillSampleIndex[];
  walk: WalkSampleIndex[];
}
export type ProverQuestion = { step: 'commit' } | { step: 'walk'; nonce2: string } | { step: 'open'; samples: Samples };
export type ProverAnswer = { ok: true; value: unknown } | { ok: false; message: string };

/** A prover thread per GPU. Each method works on all of them at once and answers by gpu uuid. */
export interface GpuProvers {
  commit: () => Promise<Record<string, string>>;
  walk: (nonce2: string) => Promise<Record<string, { digest: string; trace_root: string }>>;
  open: (samples: Record<string, Samples>) => Promise<Record<string, GpuOpenings>>;
  close: () => Promise<void>;
}

export function startGpuProvers(challenges: readonly PovwChallenge[]): GpuProvers {
  const threads = challenges.map((challenge) => ({
    uuid: challenge.binding.gpuUuid,
    worker: new Worker(new URL('./prover-worker.ts', import.meta.url), { workerData: challenge }),
  }));
  const askAll = async (questionFor: (uuid: string) => ProverQuestion): Promise<[string, unknown][]> =>
    Promise.all(
      threads.map(async ({ uuid, worker }) => [uuid, await ask(worker, questionFor(uuid))] as [string, unknown]),
    );
  return {
    commit: async () => {
      const answers = (await askAll(() => ({ step: 'commit' }))) as [string, { root: string }][];
      return Object.fromEntries(answers.map(([uuid, { root }]) => [uuid, root]));
    },
    walk: async (nonce2) =>
      Object.fromEntries(
        (await askAll(() => ({ step: 'walk', nonce2 }))) as [string, { digest: string; trace_root: string }][],
      ),
    open: async (samples) =>
      Object.fromEntries(
        (await askAll((uuid) => ({ step: 'open', samples: samples[uuid] ?? { fill: [], walk: [] } }))) as [
          string,
          GpuOpenings,
        ][],
      ),
    close: async () => {
      await Promise.all(threads.map(({ worker }) => worker.terminate()));
    },
  };
}

async function ask(worker: Worker, question: ProverQuestion): Promise<unknown> {
  const answer = await new Promise<ProverAnswer>((resolve, reject) => {
    const done = (settle: () => void) => {
      worker.off('message', onMessage).off('error', onError).off('exit', onExit);
      settle();
    };
    const onMessage = (message: ProverAnswer) => done(() => resolve(message));
    const onError = (err: unknown) => done(() => reject(err));
    const onExit = (code: number) => done(() => reject(new Error(`prover thread ended with ${code}`)));
    worker.on('message', onMessage).on('error', onError).on('exit', onExit);
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    worker.postMessage(question);
  });
  if (!answer.ok) throw new Error(`prover: ${answer.message}`);
  return answer.value;
}
