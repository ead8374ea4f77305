import { parentPort, workerData } from 'node:worker_threads';
import { createProver } from '../../../workflows/domain/proof/prover.ts';
import type { PovwChallenge } from '../../../workflows/domain/proof/messages.ts';
import type { ProverAnswer, ProverQuestion } from './gpu-prover.ts';

/** One GPU's prover in a thread of its own: the GPUs of an instance fill and walk simultaneously. */
if (!parentPort) throw new Error('this file is a worker thread');
const port = parentPort;
const prover = createProver(workerData as PovwChallenge);

port.on('message', (question: ProverQuestion) => {
  port.postMessage(answer(question));
});

function answer(question: ProverQuestion): ProverAnswer {
  try {
    switch (question.step) {
      case 'commit':
        return { ok: true, value: prover.commit() };
      case 'walk':
        return { ok: true, value: prover.walk(question.nonce2) };
      case 'open':
        return { ok: true, value: prover.open(question.samples) };
    }
  } catch (err) {
    return { ok: false, message: (err as Error).message };
  }
}
