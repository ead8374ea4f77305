import { Worker } from 'node:worker_threads';
import type { PovwChallenge } from '../../workflows/domain/proof/messages.ts';
import type { GpuProver, ProofSamples } from './gpu-prover.ts';

export type ThreadRequest =
  | { step: 'commit' }
  | { step: 'walk'; nonce2: string }
  | { step: 'open'; samples: ProofSamples };
export type ThreadAnswer = { ok: true; value: unknown } | { ok: false; message: string };

interface Waiting {
  resolve: (value: unknown) => void;
  reject: (err: Error) => void;
}

/** The TypeScript prover on a thread of its own: the event loop stays live, and all GPUs of a proof run simultaneously. */
export function startProverThread(challenge: PovwChallenge): GpuProver {
  const thread = new Worker(new URL('./gpu-prover-worker.ts', import.meta.url), { workerData: challenge });
  const waiting: Waiting[] = []; // answered in order
  let failure: Error | null = null;
  const fail = (err: Error) => {
    failure ??= err;
    for (const { reject } of waiting.splice(0)) reject(failure);
  };
  thread.on('error', (err) => fail(err instanceof Error ? err : new Error(String(err))));
  thread.on('exit', () => fail(new Error('the prover thread has ended')));
  thread.on('message', (answer: ThreadAnswer) => {
    const asked = waiting.shift();
    if (answer.ok) asked?.resolve(answer.value);
    else asked?.reject(new Error(answer.message));
  });
  const ask = async (request: ThreadRequest): Promise<unknown> =>
    new Promise<unknown>((resolve, reject) => {
      if (failure) return reject(failure);
      waiting.push({ resolve, reject });
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
      thread.postMessage(request);
    });
  return {
    commit: () => ask({ step: 'commit' }) as Promise<string>,
    walk: (nonce2) => ask({ step: 'walk', nonce2 }) as ReturnType<GpuProver['walk']>,
    open: (samples) => ask({ step: 'open', samples }) as Promise<Uint8Array>,
    close: async () => void (await thread.terminate()),
  };
}
