import { bytesToHex } from '@noble/hashes/utils.js';
import { openingsFromBinary } from '../../../workflows/domain/proof/openings-binary.ts';
import type { PovwChallenge } from '../../../workflows/domain/proof/messages.ts';
import { PROOF_VERSION } from '../../../workflows/domain/proof/povw-hashes.ts';
import { verifyOpenings } from '../../../workflows/domain/proof/verify-openings.ts';
import { GravalError, type GravalVerdict, type RecordedProof } from '../../clients/graval-proof-file.ts';
import type { GravalClient } from '../../clients/graval.ts';

/** Checks proofs one after the other. An error is a failed attempt, never a "no". */
export interface ProofVerifier {
  name: 'graval' | 'typescript';
  start: () => VerifierSession;
}
export interface VerifierSession {
  verify: (challenge: PovwChallenge, proof: RecordedProof) => Promise<GravalVerdict>;
  close: () => Promise<void>;
}

/** One GPU of 80 GB size takes a tenth of a second; a process that says nothing for so long hangs. */
const ANSWER_WITHIN_MS = 60_000;

/** In this process: the definition itself, for development and where no `graval` was built. */
export const TYPESCRIPT_VERIFIER: ProofVerifier = {
  name: 'typescript',
  start: () => ({
    verify: async (challenge, proof) => {
      const verdict = verifyOpenings({
        challenge,
        root: bytesToHex(proof.root),
        nonce2: bytesToHex(proof.nonce2),
        walk: { digest: bytesToHex(proof.digest), trace_root: bytesToHex(proof.traceRoot) },
        samples: proof.samples,
        openings: openingsFromBinary(proof, proof.openings),
      });
      if (!verdict.verified) return { verified: false, reason: verdict.reason };
      return { verified: true, samplesChecked: verdict.samplesChecked };
    },
    close: async () => {},
  }),
};

/** `graval serve`, a process of its own for each session: what strangers sent is parsed outside the worker. */
export const gravalVerifier = (graval: Pick<GravalClient, 'serve'>): ProofVerifier => ({
  name: 'graval',
  start: () => {
    const session = graval.serve();
    return {
      verify: async (_challenge, proof) => {
        let timer: NodeJS.Timeout | undefined;
        const silence = new Promise<never>((_resolve, reject) => {
          const late = () => reject(new GravalError(`graval gave no verdict within ${ANSWER_WITHIN_MS / 1000} s`));
          timer = setTimeout(late, ANSWER_WITHIN_MS);
        });
        try {
          const verdict = await Promise.race([session.verify(proof), silence]);
          if (!verdict.verified && verdict.reason === 'none') throw new GravalError('graval refused without a reason');
          return verdict;
        } finally {
          clearTimeout(timer);
        }
      },
      close: session.close,
    };
  },
});

/**
 * The verifier of a worker, chosen once when it starts. Throws when the program does not run or checks another version of the
 * proof than this network's provers make: it would refuse every honest one.
 */
export async function chooseVerifier(
  graval: Pick<GravalClient, 'serve' | 'info'> | null,
): Promise<{ verifier: ProofVerifier; proofVersion: string }> {
  if (!graval) return { verifier: TYPESCRIPT_VERIFIER, proofVersion: PROOF_VERSION };
  const { proofVersion } = await graval.info();
  if (proofVersion !== PROOF_VERSION)
    throw new Error(`CANOPY_GRAVAL checks ${proofVersion}, this network proves ${PROOF_VERSION}: build it again`);
  return { verifier: gravalVerifier(graval), proofVersion };
}
