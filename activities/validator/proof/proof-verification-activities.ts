import { setImmediate } from 'node:timers/promises';
import { hexToBytes } from '@noble/hashes/utils.js';
import { activityInfo, cancellationSignal, heartbeat } from '@temporalio/activity';
import { isHash } from '../../../workflows/domain/proof/bytes.ts';
import type { PovwChallenge } from '../../../workflows/domain/proof/messages.ts';
import { openingsBytesAtMost } from '../../../workflows/domain/proof/profile-rows.ts';
import { isSoundBinding, isSoundProfile, seedOf } from '../../../workflows/domain/proof/povw-hashes.ts';
import type {
  OpeningsActivities,
  ProofFileRef,
  ProofSession,
  ProofVerdict,
  ProofVerificationActivities,
  RecordedVerdict,
} from '../../../workflows/domain/proof/plugin.ts';
import type { ProofFault } from '../../../workflows/domain/proof/verify-openings.ts';
import { writeProofFile, type GravalVerdict, type RecordedProof } from '../../clients/graval-proof-file.ts';
import type { BlobStore } from '../../clients/s3.ts';
import { TYPESCRIPT_VERIFIER, type ProofVerifier, type VerifierSession } from './proof-verifier.ts';
import { receivedOpenings } from './received-openings.ts';

export interface ProofVerificationDeps {
  blobs: Pick<BlobStore, 'stream' | 'putByContent' | 'delete'>;
  verifier?: ProofVerifier;
}

/** Where proof files are kept: `<prefix>/<sha256>`. */
export const PROOF_FILES = 'proofs/records';
/** The wait for a store or a verifier is no sign of death: told often enough for a heartbeat time-out of 30 s. */
const BEAT_MS = 5_000;

/** Queue `gpu`. A verdict, a "no" included, is a value; a failing store or a crashed verifier is an error. */
export function createProofVerificationActivities({
  blobs,
  verifier = TYPESCRIPT_VERIFIER,
}: ProofVerificationDeps): ProofVerificationActivities & OpeningsActivities {
  return {
    async verifyProof({ session, openings }): Promise<ProofVerdict> {
      if (session.plugin === 'none') return { verified: true, trustLevel: 'none', verdicts: [] };
      const { roots, nonce2, walks, samples, challenges } = session;
      if (!roots || !nonce2 || !walks || !samples || !openings || challenges.length === 0) {
        return { verified: false, reason: 'proof_incomplete', verdicts: [] };
      }
      const resume = activityInfo().heartbeatDetails as { verdicts: RecordedVerdict[] } | undefined;
      const verdicts = [...(resume?.verdicts ?? [])];
      const checker = verifier.start();
      const cancelled = cancellationSignal();
      const abandon = (): void => void checker.close();
      cancelled.addEventListener('abort', abandon, { once: true });
      const beat = setInterval(() => heartbeat({ verdicts }), BEAT_MS);
      try {
        for (const challenge of challenges.slice(verdicts.length)) {
          await setImmediate(); // a GPU's samples are one burst of arithmetic: let heartbeats out between them
          cancelled.throwIfAborted();
          const ref = ownOf(openings, challenge.binding.gpuUuid);
          const limitBytes = openingsBytesAtMost(challenge.profile);
          const received = ref ? await receivedOpenings(blobs, ref, limitBytes, cancelled) : null;
          verdicts.push(await verdictOnGpu(checker, blobs, session, challenge, received));
          heartbeat({ verdicts });
        }
      } catch (err) {
        cancelled.throwIfAborted(); // what was cut off by it is not a fault
        throw err;
      } finally {
        clearInterval(beat);
        cancelled.removeEventListener('abort', abandon);
        await checker.close();
      }
      return verdictOf(session, verdicts);
    },

    async dropOpenings({ keys }): Promise<void> {
      await Promise.all(keys.map((key) => blobs.delete(key)));
    },
  };
}

/** The verdict and, where there is a whole proof to look at, its file: of a refused one too, as evidence. Bytes of the wrong number
 * are evidence of nothing: they are not kept. */
async function verdictOnGpu(
  checker: VerifierSession,
  blobs: ProofVerificationDeps['blobs'],
  session: ProofSession,
  challenge: PovwChallenge,
  openings: Uint8Array | null,
): Promise<RecordedVerdict> {
  const { gpuUuid } = challenge.binding;
  const proof = proofOf(session, challenge, openings);
  if (typeof proof === 'string') return { gpuUuid, verified: false, reason: proof, record: null };
  const verdict: GravalVerdict = await checker.verify(challenge, proof);
  if (!verdict.verified && verdict.reason === 'openings_malformed')
    return { gpuUuid, verified: false, reason: verdict.reason, record: null };
  const record: ProofFileRef = await blobs.putByContent(PROOF_FILES, writeProofFile(proof));
  return verdict.verified
    ? { gpuUuid, verified: true, samplesChecked: verdict.samplesChecked, record }
    : { gpuUuid, verified: false, reason: verdict.reason, record };
}

/** All that a verifier needs of one GPU, or why there is nothing to verify. */
function proofOf(
  { roots, nonce2, walks, samples }: ProofSession,
  { binding, profile }: PovwChallenge,
  openings: Uint8Array | null,
): RecordedProof | ProofFault {
  const uuid = binding.gpuUuid;
  const [root, walk, drawn] = [ownOf(roots, uuid), ownOf(walks, uuid), ownOf(samples, uuid)];
  if (!isSoundProfile(profile) || !isSoundBinding(binding)) return 'challenge_malformed';
  if (!isHash(root)) return 'root_malformed';
  if (!isHash(nonce2)) return 'nonce_malformed';
  if (!isHash(walk?.digest) || !isHash(walk.trace_root)) return 'walk_malformed';
  if (!drawn) return 'samples_malformed';
  if (!openings) return 'openings_malformed';
  return {
    profile,
    seed: seedOf(binding),
    root: hexToBytes(root),
    nonce2: hexToBytes(nonce2),
    digest: hexToBytes(walk.digest),
    traceRoot: hexToBytes(walk.trace_root),
    samples: drawn,
    openings,
  };
}

/** By uuid, never by what every object inherits. */
const ownOf = <Value>(of: Record<string, Value> | null, uuid: string): Value | undefined =>
  of && Object.hasOwn(of, uuid) ? of[uuid] : undefined;

function verdictOf(session: ProofSession, verdicts: RecordedVerdict[]): ProofVerdict {
  for (const verdict of verdicts) {
    if (!verdict.verified) return { verified: false, reason: verdict.reason, verdicts };
  }
  return { verified: true, trustLevel: session.plugin, verdicts };
}
