import { isDeepStrictEqual } from 'node:util';
import { Refusal } from '../../workflows/domain/errors.ts';
import type { PovwChallenge } from '../../workflows/domain/proof/messages.ts';
import type {
  AgentCommitAnswer,
  AgentOpenAnswer,
  AgentOpenRequest,
  AgentWalkAnswer,
} from '../../workflows/domain/protocol/agent.ts';
import { startProverThread, type ThreadedProver } from './proof-threads.ts';

/** A step asked twice with the same question gets the same answer: the validator's activities are retried. */
interface Step<Question, Answer> {
  question: Question;
  answer: Promise<Answer>;
}

interface Session {
  challenges: PovwChallenge[];
  provers: ReadonlyMap<string, ThreadedProver>;
  commit: Promise<AgentCommitAnswer>;
  walk: Step<string, AgentWalkAnswer> | null;
  open: Step<AgentOpenRequest['samples'], AgentOpenAnswer> | null;
  idle: NodeJS.Timeout;
}

export interface ProofSessionsOptions {
  minerHotkey: string;
  gpuUuids: readonly string[];
  /** a session nobody goes on with frees its GPUs after this */
  idleMs: number;
  startProver?: (challenge: PovwChallenge) => ThreadedProver;
}

/** The proofs under way on this server; a GPU is in one at a time. */
export class ProofSessions {
  readonly #sessions = new Map<string, Session>();
  readonly #options: Required<ProofSessionsOptions>;
  constructor(options: ProofSessionsOptions) {
    this.#options = { startProver: startProverThread, ...options };
  }

  get size(): number {
    return this.#sessions.size;
  }

  commit(id: string, challenges: PovwChallenge[]): Promise<AgentCommitAnswer> {
    const known = this.#sessions.get(id);
    if (known) {
      if (!isDeepStrictEqual(known.challenges, challenges))
        throw new Refusal('resource.conflict', 'this session has other challenges');
      known.idle.refresh();
      return known.commit;
    }
    this.#requireFree(challenges.map(({ binding }) => binding));
    const provers = new Map(
      challenges.map((challenge) => [challenge.binding.gpuUuid, this.#options.startProver(challenge)]),
    );
    const commit = forEachGpu(provers, (prover) => prover.commit()).then((roots) => ({
      roots: Object.fromEntries(Object.entries(roots).map(([uuid, { root }]) => [uuid, root])),
    }));
    const idle = setTimeout(() => void this.close(id), this.#options.idleMs).unref();
    this.#sessions.set(id, { challenges, provers, commit, walk: null, open: null, idle });
    commit.catch(() => this.close(id)); // a failed fill must not hold the GPUs
    return commit;
  }

  async walk(id: string, nonce2: string): Promise<AgentWalkAnswer> {
    const session = this.#find(id);
    await session.commit;
    if (session.walk && session.walk.question !== nonce2)
      throw new Refusal('resource.conflict', 'this session walks with another nonce');
    session.walk ??= {
      question: nonce2,
      answer: forEachGpu(session.provers, (prover) => prover.walk(nonce2)).then((walks) => ({ walks })),
    };
    return session.walk.answer;
  }

  async open(id: string, samples: AgentOpenRequest['samples']): Promise<AgentOpenAnswer> {
    const session = this.#find(id);
    if (!session.walk) throw new Refusal('proof.not_awaited', 'opening comes after walking');
    await session.walk.answer;
    if (session.open && !isDeepStrictEqual(session.open.question, samples))
      throw new Refusal('resource.conflict', 'this session opens other samples');
    for (const uuid of session.provers.keys())
      if (!Object.hasOwn(samples, uuid)) throw new Refusal('request.invalid', `samples of GPU ${uuid} are missing`);
    session.open ??= {
      question: samples,
      answer: forEachGpu(session.provers, (prover, uuid) => prover.open(samples[uuid] ?? { fill: [], walk: [] })).then(
        (openings) => ({ openings }),
      ),
    };
    return session.open.answer;
  }

  /** Idempotent; frees the GPUs' memory. */
  async close(id: string): Promise<void> {
    const session = this.#sessions.get(id);
    if (!session) return;
    this.#sessions.delete(id);
    clearTimeout(session.idle);
    await Promise.all([...session.provers.values()].map((prover) => prover.close()));
  }

  async closeAll(): Promise<void> {
    await Promise.all([...this.#sessions.keys()].map((id) => this.close(id)));
  }

  #find(id: string): Session {
    const session = this.#sessions.get(id);
    if (!session) throw new Refusal('resource.not_found', 'no such proof session; it may have expired');
    session.idle.refresh();
    return session;
  }

  #requireFree(bindings: readonly PovwChallenge['binding'][]): void {
    const busy = new Set([...this.#sessions.values()].flatMap(({ provers }) => [...provers.keys()]));
    if (new Set(bindings.map(({ gpuUuid }) => gpuUuid)).size !== bindings.length)
      throw new Refusal('request.invalid', 'a GPU is challenged twice');
    for (const { gpuUuid, minerHotkey } of bindings) {
      if (minerHotkey !== this.#options.minerHotkey)
        throw new Refusal('request.invalid', 'the challenge is for another miner');
      if (!this.#options.gpuUuids.includes(gpuUuid))
        throw new Refusal('resource.not_found', `GPU ${gpuUuid} is not on this server`);
      if (busy.has(gpuUuid)) throw new Refusal('gpu.busy', `GPU ${gpuUuid} is in another proof`);
    }
  }
}

async function forEachGpu<Answer>(
  provers: ReadonlyMap<string, ThreadedProver>,
  step: (prover: ThreadedProver, uuid: string) => Promise<Answer>,
): Promise<Record<string, Answer>> {
  return Object.fromEntries(
    await Promise.all([...provers].map(async ([uuid, prover]) => [uuid, await step(prover, uuid)] as const)),
  );
}
