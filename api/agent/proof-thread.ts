/** One GPU's prover on a thread of its own: the HTTP loop stays live, and all GPUs of a session run simultaneously. */
import { parentPort, workerData } from 'node:worker_threads';
import type { PovwChallenge } from '../../workflows/domain/proof/messages.ts';
import { createProver } from '../../workflows/domain/proof/prover.ts';
import type { ThreadAnswer, ThreadRequest } from './proof-threads.ts';

const prover = createProver(workerData as PovwChallenge);

parentPort?.on('message', (request: ThreadRequest) => {
  let answer: ThreadAnswer;
  try {
    answer = { ok: true, value: run(request) };
  } catch (err) {
    answer = { ok: false, message: err instanceof Error ? err.message : String(err) };
  }
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  parentPort?.postMessage(answer);
});

function run(request: ThreadRequest): unknown {
  switch (request.step) {
    case 'commit':
      return prover.commit();
    case 'walk':
      return prover.walk(request.nonce2);
    case 'open':
      return prover.open(request.samples);
  }
}
