import { isDeepStrictEqual } from 'node:util';
import { Refusal } from '../../workflows/domain/errors.ts';
import type { PovwChallenge } from '../../workflows/domain/proof/messages.ts';
import { areSoundSamples } from '../../workflows/domain/proof/verify-openings.ts';
import type { AgentCommitAnswer, AgentOpenRequest, AgentWalkAnswer } from '../../workflows/domain/protocol/agent.ts';
import { forEachGpu, whyNotProvable, type GpuProver } from '../../activities/clients/gpu-prover.ts';
import { startGpuProver } from '../../activities/clients/start-gpu-prover.ts';
import {
  proverName,
  TYPESCRIPT_ENGINE,
  type ProverEngine,
  type ProverName,
} from '../../activities/clients/prover-engine.ts';

/** A step asked twice with the same question gets the same answer: the validator's activities are retried. */
interface Step<Question, Answer> {
  question: Question;
  answer: Promise<Answer>;
}

interface Session {
  challenges: PovwChallenge[];
  provers: ReadonlyMap<string, GpuProver>;
  commit: Promise<AgentCommitAnswer>;
  walk: Step<string, AgentWalkAnswer> | null;
  /** by GPU uuid: the one question it answers. The bytes are computed again: up to 16 MiB a GPU are not kept. */
  asked: Map<string, AgentOpenRequest['samples']>;
  idle: NodeJS.Timeout;
}

export interface ProofSessionsOptions {
  minerHotkey: string;
  gpuUuids: readonly string[];
  /** a session nobody goes on with frees its GPUs after this */
  idleMs: number;
  /** default: TypeScript */
  engine?: ProverEngine;
  startProver?: typeof startGpuProver;
}

/** The proofs under way on this server; a GPU is in one at a time. */
export class ProofSessions {
  readonly #sessions = new Map<string, Session>();
  /** GPUs whose prover is ending: their memory is not free yet */
  readonly #freeing = new Set<string>();
  readonly #options: Required<ProofSessionsOptions>;
  constructor(options: ProofSessionsOptions) {
    this.#options = { startProver: startGpuProver, engine: TYPESCRIPT_ENGINE, ...options };
  }

  get size(): number {
    return this.#sessions.size;
  }

  /** By GPU uuid, what makes its proofs. */
  get provers(): Record<string, ProverName> {
    const { gpuUuids, engine } = this.#options;
    return Object.fromEntries(gpuUuids.map((uuid) => [uuid, proverName(engine.placeOf(uuid))]));
  }

  commit(id: string, challenges: PovwChallenge[]): Promise<AgentCommitAnswer> {
    const known = this.#sessions.get(id);
    if (known) {
      if (!isDeepStrictEqual(known.challenges, challenges))
        throw new Refusal('resource.conflict', 'this session has other challenges');
      known.idle.refresh();
      return known.commit;
    }
    this.#requireFree(challenges);
    const { startProver, engine, idleMs } = this.#options;
    const provers = new Map(
      challenges.map((challenge) => {
        const { gpuUuid } = challenge.binding;
        return [gpuUuid, startProver(challenge, engine.placeOf(gpuUuid))];
      }),
    );
    const commit = this.#answer(
      id,
      provers,
      forEachGpu(provers, (prover) => prover.commit()).then((roots) => ({ roots })),
    );
    const idle = setTimeout(() => void this.close(id), idleMs).unref();
    this.#sessions.set(id, { challenges, provers, commit, walk: null, asked: new Map(), idle });
    return commit;
  }

  async walk(id: string, nonce2: string): Promise<AgentWalkAnswer> {
    const session = this.#find(id);
    await session.commit;
    if (session.walk && session.walk.question !== nonce2)
      throw new Refusal('resource.conflict', 'this session walks with another nonce');
    session.walk ??= {
      question: nonce2,
      answer: this.#answer(
        id,
        session.provers,
        forEachGpu(session.provers, (prover) => prover.walk(nonce2)).then((walks) => ({ walks })),
      ),
    };
    return session.walk.answer;
  }

  /** One GPU's openings in their binary form. */
  async open(id: string, gpuUuid: string, samples: AgentOpenRequest['samples']): Promise<Uint8Array> {
    const session = this.#find(id);
    if (!session.walk) throw new Refusal('proof.not_awaited', 'opening comes after walking');
    await session.walk.answer;
    const prover = session.provers.get(gpuUuid);
    const challenge = session.challenges.find(({ binding }) => binding.gpuUuid === gpuUuid);
    if (!prover || !challenge) throw new Refusal('resource.not_found', `GPU ${gpuUuid} is not in this session`);
    if (!areSoundSamples(challenge.profile, samples))
      throw new Refusal('request.invalid', 'the samples are not those of the profile');
    const asked = session.asked.get(gpuUuid) ?? samples;
    if (!isDeepStrictEqual(asked, samples))
      throw new Refusal('resource.conflict', 'this GPU opens other samples in this session');
    session.asked.set(gpuUuid, asked);
    return this.#answer(id, session.provers, prover.open(samples));
  }

  /** Idempotent; frees the GPUs' memory. */
  async close(id: string): Promise<void> {
    const session = this.#sessions.get(id);
    if (!session) return;
    this.#sessions.delete(id);
    clearTimeout(session.idle);
    const uuids = [...session.provers.keys()];
    for (const uuid of uuids) this.#freeing.add(uuid);
    await Promise.all([...session.provers.values()].map((prover) => prover.close())).finally(() => {
      for (const uuid of uuids) this.#freeing.delete(uuid);
    });
  }

  async closeAll(): Promise<void> {
    await Promise.all([...this.#sessions.keys()].map((id) => this.close(id)));
  }

  /** A prover that failed has lost what it filled: the session ends, and its GPUs are free for the next one. */
  async #answer<Answer>(id: string, provers: Session['provers'], step: Promise<Answer>): Promise<Answer> {
    const session = () => (this.#sessions.get(id)?.provers === provers ? this.#sessions.get(id) : undefined); // not a later one
    try {
      const answer = await step;
      session()?.idle.refresh(); // the time a step takes is not idle
      return answer;
    } catch (err) {
      if (session()) await this.close(id);
      throw new Refusal('service.unavailable', (err as Error).message, { cause: err });
    }
  }

  #find(id: string): Session {
    const session = this.#sessions.get(id);
    if (!session) throw new Refusal('resource.not_found', 'no such proof session; it may have expired');
    session.idle.refresh();
    return session;
  }

  #requireFree(challenges: readonly PovwChallenge[]): void {
    const { minerHotkey, gpuUuids, engine } = this.#options;
    const bindings = challenges.map(({ binding }) => binding);
    const busy = new Set(
      [...this.#sessions.values()].flatMap(({ provers }) => [...provers.keys()]).concat(...this.#freeing),
    );
    if (new Set(bindings.map(({ gpuUuid }) => gpuUuid)).size !== bindings.length)
      throw new Refusal('request.invalid', 'a GPU is challenged twice');
    for (const challenge of challenges) {
      const { gpuUuid } = challenge.binding;
      if (challenge.binding.minerHotkey !== minerHotkey)
        throw new Refusal('request.invalid', 'the challenge is for another miner');
      if (!gpuUuids.includes(gpuUuid)) throw new Refusal('resource.not_found', `GPU ${gpuUuid} is not on this server`);
      const whyNot = whyNotProvable(challenge, engine.placeOf(gpuUuid));
      if (whyNot !== null) throw new Refusal('request.invalid', whyNot);
      if (busy.has(gpuUuid)) throw new Refusal('gpu.busy', `GPU ${gpuUuid} is in another proof`);
    }
  }
}
