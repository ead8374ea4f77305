/** The thread of `gpu-prover-thread.ts`. */
import { parentPort, workerData } from 'node:worker_threads';
import type { PovwChallenge } from '../../workflows/domain/proof/messages.ts';
import { openingsToBinary } from '../../workflows/domain/proof/openings-binary.ts';
import { seedOf } from '../../workflows/domain/proof/povw-hashes.ts';
import { createProver } from '../../workflows/domain/proof/prover.ts';
import type { ThreadAnswer, ThreadRequest } from './gpu-prover-thread.ts';

const challenge = workerData as PovwChallenge;
const prover = createProver(challenge);

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
      return prover.commit().root;
    case 'walk':
      return prover.walk(request.nonce2);
    case 'open': {
      const { samples } = request;
      const by = { profile: challenge.profile, seed: seedOf(challenge.binding), samples };
      const bytes = openingsToBinary(by, prover.open(samples));
      if (!bytes) throw new Error('the openings have no binary form');
      return bytes;
    }
  }
}
