import { bytesToHex, hexToBytes } from '@noble/hashes/utils.js';
import type { PovwChallenge } from '../../workflows/domain/proof/messages.ts';
import { seedOf } from '../../workflows/domain/proof/povw-hashes.ts';
import { startProverThread } from './gpu-prover-thread.ts';
import { whyNotProvable, type GpuProver, type ProverPlace } from './gpu-prover.ts';
import { createGravalClient } from './graval.ts';

/** Throws when `whyNotProvable` says so; takes no memory before `commit`. */
export function startGpuProver(challenge: PovwChallenge, place: ProverPlace): GpuProver {
  const whyNot = whyNotProvable(challenge, place);
  if (whyNot !== null) throw new Error(whyNot);
  const prover =
    place.graval === null ? startProverThread(challenge) : startGravalProver(challenge, place.graval, place.device);
  const named = async <Answer>(step: string, answer: Promise<Answer>): Promise<Answer> => {
    try {
      return await answer;
    } catch (err) {
      const reason = err instanceof Error ? err.message : String(err);
      throw new Error(`${step} by GPU ${challenge.binding.gpuUuid} failed: ${reason}`, { cause: err });
    }
  };
  return {
    commit: () => named('commit', prover.commit()),
    walk: (nonce2) => named('walk', prover.walk(nonce2)),
    open: (samples) => named('opening', prover.open(samples)),
    close: prover.close,
  };
}

/** A `graval serve` process of its own: with it ends the memory, the GPU's too. */
function startGravalProver({ binding, profile }: PovwChallenge, graval: string, device: number): GpuProver {
  const session = createGravalClient({ binary: graval }).serve();
  return {
    commit: async () => {
      await session.begin({ device, profile, seed: seedOf(binding) });
      return bytesToHex(await session.commit());
    },
    walk: async (nonce2) => {
      const { digest, traceRoot } = await session.walk(hexToBytes(nonce2));
      return { digest: bytesToHex(digest), trace_root: bytesToHex(traceRoot) };
    },
    open: (samples) => session.open(samples),
    close: () => session.close(),
  };
}
