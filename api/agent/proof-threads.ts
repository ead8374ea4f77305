import { Worker } from 'node:worker_threads';
import type { PovwChallenge } from '../../workflows/domain/proof/messages.ts';
import type { Prover } from '../../workflows/domain/proof/prover.ts';

export type ThreadRequest =
  | { step: 'commit' }
  | { step: 'walk'; nonce2: string }
  | { step: 'open'; samples: Parameters<Prover['open']>[0] };
export type ThreadAnswer = { ok: true; value: unknown } | { ok: false; message: string };

/** A prover behind a thread: the same three steps, one at a time, as promises. */
export interface ThreadedProver {
  commit: () => Promise<ReturnType<Prover['commit']>>;
  walk: (nonce2: string) => Promise<ReturnType<Prover['walk']>>;
  open: (samples: Parameters<Prover['open']>[0]) => Promise<ReturnType<Prover['open']>>;
  /** frees the memory; a step under way fails */
  close: () => Promise<void>;
}

export function startProverThread(challenge: PovwChallenge): ThreadedProver {
  const thread = new Worker(new URL('./proof-thread.ts', import.meta.url), { workerData: challenge });
  let failure: Error | null = null;
  let waiting: { resolve: (value: unknown) => void; reject: (err: Error) => void } | null = null;
  const fail = (err: Error) => {
    failure ??= err;
    waiting?.reject(failure);
    waiting = null;
  };
  thread.on('error', (err) => fail(err instanceof Error ? err : new Error(String(err))));
  thread.on('exit', () => fail(new Error('the prover thread has ended')));
  thread.on('message', (answer: ThreadAnswer) => {
    const { resolve, reject } = waiting ?? {};
    waiting = null;
    if (answer.ok) resolve?.(answer.value);
    else reject?.(new Error(answer.message));
  });
  const ask = <T>(request: ThreadRequest): Promise<T> =>
    new Promise<unknown>((resolve, reject) => {
      if (failure) return reject(failure);
      if (waiting) return reject(new Error('a step of this proof is under way'));
      waiting = { resolve, reject };
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
      thread.postMessage(request);
    }) as Promise<T>;
  return {
    commit: () => ask({ step: 'commit' }),
    walk: (nonce2) => ask({ step: 'walk', nonce2 }),
    open: (samples) => ask({ step: 'open', samples }),
    close: async () => void (await thread.terminate()),
  };
}
