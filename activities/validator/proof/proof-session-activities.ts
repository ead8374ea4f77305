import { randomBytes } from 'node:crypto';
import { isHash } from '../../../workflows/domain/proof/bytes.ts';
import { drawSamples } from '../../../workflows/domain/proof/draw-samples.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import type { PovwProfile } from '../../../workflows/domain/proof/messages.ts';
import type {
  BeginProof,
  ProofPluginName,
  ProofSession,
  ProofSessionActivities,
  ProvenGpu,
} from '../../../workflows/domain/proof/plugin.ts';

export interface ProofSessionDeps {
  /** refuses a GPU that cannot be proven */
  profileFor: (gpu: ProvenGpu, plugin: ProofPluginName) => PovwProfile;
  random?: (bytes: number) => Uint8Array;
}

/** Time that signing, sending and storing may take on top of what is timed; and for each GPU's openings, 15 MB on a slow line. */
const SLACK_MS = 60_000;
const OPENINGS_MS = 10_000;

/**
 * Draws what each step reveals. A step that runs twice draws anew, and the draw that is recorded is the only one the
 * prover ever sees: the workflow answers from its history.
 */
export function createProofSessionActivities({
  profileFor,
  random = randomBytes,
}: ProofSessionDeps): ProofSessionActivities {
  const nonce = (): string => Buffer.from(random(32)).toString('hex');
  return {
    async beginProof(input: BeginProof): Promise<ProofSession> {
      const empty = { plugin: input.plugin, roots: null, nonce2: null, walks: null, samples: null };
      if (input.plugin === 'none') return { ...empty, challenges: [], deadlineMs: SLACK_MS };
      if (new Set(input.gpus.map(({ uuid }) => uuid)).size !== input.gpus.length || input.gpus.length === 0) {
        throw new Refusal('request.invalid', 'a proof is of at least one GPU, each once');
      }
      const challenges = input.gpus.map((gpu) => ({
        binding: {
          validatorNonce: nonce(),
          configId: input.configId,
          minerHotkey: input.minerHotkey,
          gpuUuid: gpu.uuid,
          gpuType: gpu.gpuType,
          vramBytes: gpu.vramBytes,
          transportPublicKey: input.transportPublicKey,
        },
        profile: profileFor(gpu, input.plugin),
      }));
      return {
        ...empty,
        challenges,
        deadlineMs:
          limitMs(challenges, 'fillLimitMs') +
          limitMs(challenges, 'walkLimitMs') +
          SLACK_MS +
          OPENINGS_MS * challenges.length,
      };
    },

    async acceptCommit({ session, roots, elapsedMs }) {
      if (session.plugin === 'none' || session.roots)
        throw new Refusal('proof.not_awaited', 'no commitment is awaited');
      requireEachGpu(session, roots, 'root');
      for (const root of Object.values(roots))
        if (!isHash(root)) throw new Refusal('proof.refused', 'a root is not 64 hex digits');
      requireInTime('fill', elapsedMs, limitMs(session.challenges, 'fillLimitMs'));
      return { ...session, roots, nonce2: nonce() };
    },

    async acceptWalk({ session, walks, elapsedMs }) {
      if (!session.roots || session.walks) throw new Refusal('proof.not_awaited', 'no walk is awaited');
      requireEachGpu(session, walks, 'walk');
      for (const walk of Object.values(walks)) {
        if (!isHash(walk?.digest) || !isHash(walk.trace_root))
          throw new Refusal('proof.refused', 'digest and trace root are 64 hex digits each');
      }
      requireInTime('walk', elapsedMs, limitMs(session.challenges, 'walkLimitMs'));
      const samples = Object.fromEntries(
        session.challenges.map(({ binding, profile }) => [binding.gpuUuid, drawSamples(profile, random(32))]),
      );
      return { ...session, walks, samples };
    },
  };
}

const limitMs = (challenges: ProofSession['challenges'], limit: 'fillLimitMs' | 'walkLimitMs'): number =>
  Math.max(...challenges.map(({ profile }) => profile[limit]));

function requireEachGpu(session: ProofSession, given: Record<string, unknown>, what: string): void {
  const wanted = new Set(session.challenges.map(({ binding }) => binding.gpuUuid));
  for (const uuid of Object.keys(given))
    if (!wanted.has(uuid)) throw new Refusal('proof.refused', `a ${what} of a GPU that was not challenged`);
  for (const uuid of wanted)
    if (!Object.hasOwn(given, uuid)) throw new Refusal('proof.refused', `the ${what} of GPU ${uuid} is missing`);
}

function requireInTime(step: string, elapsedMs: number, limitMs: number): void {
  if (!(elapsedMs <= limitMs))
    throw new Refusal('proof.refused', `${step} took ${Math.round(elapsedMs)} ms, the limit is ${limitMs} ms`);
}
