import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { activityInfo, cancellationSignal, heartbeat } from '@temporalio/activity';
import type { Knex } from 'knex';
import { z } from 'zod';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { gpuType, soldVramBytes } from '../../../workflows/domain/gpus/gpu-table.ts';
import { DEVICE_INFO_CHALLENGES, deviceInfoAnswer } from '../../../workflows/domain/nodes/device-info.ts';
import {
  asType,
  isHopping,
  whyBatchRefused,
  whyDeviceRefused,
  type AnnouncedNode,
  type NodeRefusal,
} from '../../../workflows/domain/nodes/node-rules.ts';
import type { PovwChallenge } from '../../../workflows/domain/proof/messages.ts';
import {
  openingsKey,
  type OpeningsRefs,
  type ProofSession,
  type ProofSummary,
} from '../../../workflows/domain/proof/plugin.ts';
import type { ProvableNode, RegisterNodes } from '../../../workflows/validator/nodes/messages.ts';
import type { Hotkey } from '../../clients/hotkey.ts';
import { FOREIGN_KEY_VIOLATION, sqlState, UNIQUE_VIOLATION } from '../../clients/postgres.ts';
import type { BlobStore } from '../../clients/s3.ts';
import { agentOf, beating, parseAnswer, pick } from './agent-answers.ts';
import { AgentClient, type AgentAddress, type AgentAnswer, type AgentCall } from './agent-client.ts';
import { whyHostRefused } from './check-host.ts';
import { gpusInSweep } from './gpus-in-sweep.ts';
import { NodeStore } from './node-store.ts';
import { fullTaskId, randomSeed } from './node-tasks.ts';

export type { AgentAnswer } from './agent-client.ts';

export interface NodeActivityDeps {
  db: Knex;
  blobs: Pick<BlobStore, 'put'>;
  /** signs what is sent to agents */
  hotkey: Hotkey;
  config: { CANOPY_ALLOW_PRIVATE_HOSTS: boolean };
  /** why a GPU of this type could not be proven here, for its miner to read */
  whyNotProvable?: (gpuType: string) => string | null;
  nowMs?: () => number;
}

/** GPUs behind one agent. `session` names the proof there. */
export interface OnAgent {
  nodes: ProvableNode[];
  minerHotkey: string;
  session: string;
}

/** What a new attempt goes on from; the time the agent took, not the time it waited for us. */
interface OpeningProgress {
  opened: OpeningsRefs;
  spentMs: number;
}

const SMALL_ANSWER_BYTES = 64 * 1024;
/** For all of them: the reference's 12 s each would hold a window of many GPUs open for minutes. */
const INFO_MS = 20_000;
const OPEN_TRIES = 4;
const MAX_UNPROVEN = 64;
/** One answer with openings; of all together the caller says how long. */
const OPENINGS_ANSWER_MS = 60_000;

const commitAnswer = z.object({ roots: z.record(z.string(), z.string()) });
const walkAnswer = z.object({ walks: z.record(z.string(), z.object({ digest: z.string(), trace_root: z.string() })) });

export function createNodeActivities({
  db,
  blobs,
  hotkey,
  config,
  whyNotProvable = () => null,
  nowMs = Date.now,
}: NodeActivityDeps) {
  const store = new NodeStore(db);
  const agents = new AgentClient({ hotkey, allowPrivateHosts: config.CANOPY_ALLOW_PRIVATE_HOSTS });

  /** The checks of spec/validator-internals.md §2.14.1, in their order. */
  async function firstRefusal(minerHotkey: string, nodes: readonly AnnouncedNode[]): Promise<NodeRefusal | null> {
    const batch = whyBatchRefused(nodes);
    if (batch) return batch;
    const uuids = nodes.map(({ uuid }) => uuid);
    // Each may hold slots of ours for as long as it is silent.
    if ((await store.countUnproven(minerHotkey)) >= MAX_UNPROVEN)
      return { code: 'rate.limited', detail: `${MAX_UNPROVEN} GPUs of yours are not proven yet: wait for them` };
    const [present] = await store.presentUuids(uuids);
    if (present) return { code: 'resource.conflict', detail: `GPU ${present} is registered already` };
    const history = await store.history(uuids, new Date(nowMs() - 86_400_000));
    const hopper = uuids.find((uuid) => isHopping(uuid, minerHotkey, history, nowMs()));
    if (hopper) return { code: 'rate.limited', detail: `GPU ${hopper} changes hotkeys too often` };
    if (!config.CANOPY_ALLOW_PRIVATE_HOSTS) {
      for (const host of new Set(nodes.map(({ verificationHost }) => verificationHost))) {
        const why = await whyHostRefused(host);
        if (why) return { code: 'request.invalid', detail: why };
      }
    }
    for (const node of nodes) {
      const why = whyDeviceRefused(node);
      if (why) return why;
      const unprovable = whyNotProvable(node.gpuIdentifier.toLowerCase());
      if (unprovable) return { code: 'request.invalid', detail: unprovable };
    }
    return null;
  }

  /** One call to the agent of these nodes; an answer that `read` cannot make sense of is a refusal. */
  async function askAgent<Value>(
    on: OnAgent,
    call: Omit<AgentCall, 'signal'>,
    read: (text: string) => Value | null,
  ): Promise<AgentAnswer<Value>> {
    const answer = await beating(() => agents.call(agentOf(on), { ...call, signal: cancellationSignal() }));
    if (answer.kind !== 'answered') return answer;
    const value = read(answer.value);
    return value === null ? { kind: 'refused', detail: "the agent's answer is malformed" } : { ...answer, value };
  }

  /** A silent agent is asked a few times more. */
  async function askAgain(
    address: AgentAddress,
    call: Omit<AgentCall, 'signal'>,
    progress: OpeningProgress,
    budgetMs: number,
  ): Promise<AgentAnswer<Buffer>> {
    for (let tries = 1; ; tries++) {
      const leftMs = budgetMs - progress.spentMs;
      if (leftMs <= 0) return { kind: 'silent', detail: `the openings took longer than ${budgetMs / 1000} s` };
      const startedAt = performance.now();
      const answer = await beating(
        () =>
          agents.callForBytes(address, {
            ...call,
            withinMs: Math.ceil(Math.min(call.withinMs, leftMs)),
            signal: cancellationSignal(),
          }),
        progress,
      );
      progress.spentMs += performance.now() - startedAt;
      if (answer.kind !== 'silent' || tries === OPEN_TRIES) return answer;
      await beating(() => delay(1000 * tries, undefined, { signal: cancellationSignal() }), progress);
    }
  }

  return {
    /** Inserts all rows or refuses; run again for the same task it finds them there. */
    async insertNodes({
      taskId,
      minerHotkey,
      serverId,
      serverName,
      nodes,
    }: RegisterNodes & { taskId: string; minerHotkey: string }): Promise<ProvableNode[]> {
      const task = fullTaskId(minerHotkey, taskId);
      if ((await store.byTask(task)).length === 0) {
        const refusal = await firstRefusal(minerHotkey, nodes);
        if (refusal) throw new Refusal(refusal.code, refusal.detail);
        const typed = nodes.map((node) => {
          const type = gpuType(node.gpuIdentifier);
          return type ? asType(node, type) : node;
        });
        try {
          await store.insert({ taskId: task, minerHotkey, serverId, serverName, nodes: typed, seed: randomSeed() });
        } catch (err) {
          if (sqlState(err) !== UNIQUE_VIOLATION) throw err;
          throw new Refusal('resource.conflict', 'a GPU of this batch was just registered', { cause: err });
        }
      }
      return nodes.map(provableNode);
    },

    recordNodesChallenged: ({
      taskId,
      uuids,
      minerHotkey,
    }: {
      taskId: string;
      uuids: string[];
      minerHotkey: string;
    }): Promise<void> => store.markChallenged(fullTaskId(minerHotkey, taskId), uuids),

    /** Rows and events in one transaction; a GPU that was deleted meanwhile is left out. */
    recordNodesVerified: ({
      taskId,
      ...rest
    }: {
      taskId: string;
      uuids: string[];
      minerHotkey: string;
      summary: ProofSummary;
    }): Promise<void> => store.markVerified({ ...rest, taskId: fullTaskId(rest.minerHotkey, taskId) }),

    recordNodesFailed: ({
      taskId,
      minerHotkey,
      ...rest
    }: {
      taskId: string;
      minerHotkey: string;
      uuids: string[];
      status: 'failed' | 'lost';
      error: string;
      summary: ProofSummary | null;
    }): Promise<void> => store.markFailed({ ...rest, taskId: fullTaskId(minerHotkey, taskId), seed: randomSeed() }),

    /** `gone` when the row is not there or belongs to another registration. */
    async lookUpNode({
      uuid,
      taskId,
      minerHotkey,
    }: {
      uuid: string;
      taskId: string;
      minerHotkey: string;
    }): Promise<{ status: string; instanceId: string | null }> {
      const row = await store.byUuid(uuid);
      if (!row || row.task_id !== fullTaskId(minerHotkey, taskId)) return { status: 'gone', instanceId: null };
      return { status: row.status, instanceId: await store.instanceOn(uuid) };
    },

    /** Deletes the row; a second run finds it gone. `by` must be who registered it. */
    async forgetNode({ uuid, minerHotkey, by }: { uuid: string; minerHotkey: string; by: string }): Promise<void> {
      if (by !== minerHotkey) throw new Refusal('resource.not_found', `no GPU ${uuid} of yours`);
      const inUse = (instanceId: string | null) =>
        new Refusal('resource.conflict', `instance ${instanceId ?? ''} runs on GPU ${uuid}: delete it first`);
      const instanceId = await store.instanceOn(uuid);
      if (instanceId) throw inUse(instanceId);
      // Whoever sees that a GPU cannot be backed would take it out, and bring it back after the sweep.
      if ((await gpusInSweep(db, { gpuUuids: [uuid] })).length > 0)
        throw new Refusal('resource.conflict', `GPU ${uuid} is being proven: try again in a few minutes`);
      try {
        await store.delete({ uuid, minerHotkey });
      } catch (err) {
        if (sqlState(err) !== FOREIGN_KEY_VIOLATION) throw err;
        throw inUse(await store.instanceOn(uuid));
      }
    },

    /** 20 questions, each device asked in turn; wrong once is wrong (spec/validator-internals.md §2.14.2). */
    async askDeviceInfo(on: Omit<OnAgent, 'session'>): Promise<AgentAnswer<null>> {
      const deadline = performance.now() + INFO_MS;
      for (let round = 0; round < DEVICE_INFO_CHALLENGES; round++) {
        const asked = on.nodes[round % on.nodes.length];
        if (!asked) break;
        const challenge = Buffer.concat([Buffer.from([asked.deviceIndex]), randomBytes(31)]).toString('hex');
        const answer = await agents.call(agentOf(on), {
          method: 'GET',
          path: `/info?challenge=${challenge}`,
          purpose: 'graval',
          withinMs: Math.max(1, Math.ceil(deadline - performance.now())),
          maxAnswerBytes: 1024,
          signal: cancellationSignal(),
        });
        if (answer.kind !== 'answered') return answer;
        if (answer.value.trim() !== deviceInfoAnswer(challenge, { ...asked, clock_rate: asked.clockRate }))
          return { kind: 'refused', detail: `GPU ${asked.uuid} is not the announced device` };
      }
      return { kind: 'answered', value: null, elapsedMs: 0 };
    },

    commitOnAgent: ({
      challenges,
      withinMs,
      ...on
    }: OnAgent & { challenges: PovwChallenge[]; withinMs: number }): Promise<AgentAnswer<Record<string, string>>> =>
      askAgent(
        on,
        {
          method: 'POST',
          path: '/povw/commit',
          withinMs,
          maxAnswerBytes: SMALL_ANSWER_BYTES,
          body: { session: on.session, challenges },
        },
        (text) => pick(parseAnswer(commitAnswer, text)?.roots, on.nodes),
      ),

    walkOnAgent: ({
      nonce2,
      withinMs,
      ...on
    }: OnAgent & { nonce2: string; withinMs: number }): Promise<
      AgentAnswer<{ walks: Record<string, { digest: string; trace_root: string }>; startedAtMs: number }>
    > => {
      const startedAtMs = nowMs();
      return askAgent(
        on,
        {
          method: 'POST',
          path: '/povw/walk',
          withinMs,
          maxAnswerBytes: SMALL_ANSWER_BYTES,
          body: { session: on.session, nonce2 },
        },
        (text) => {
          const walks = pick(parseAnswer(walkAnswer, text)?.walks, on.nodes);
          return walks && { walks, startedAtMs };
        },
      );
    },

    /** One GPU's openings at a time, each to the store under its hash as it comes: histories and memory stay small. A lost answer
     * is asked for again, but the agent has `budgetMs` for all of them; a new attempt goes on after the last GPU that was stored. */
    async openOnAgent({
      samples,
      budgetMs,
      maxBytes,
      ...on
    }: OnAgent & {
      samples: NonNullable<ProofSession['samples']>;
      budgetMs: number;
      maxBytes: Record<string, number>;
    }): Promise<AgentAnswer<OpeningsRefs>> {
      const resume = activityInfo().heartbeatDetails as Partial<OpeningProgress> | undefined;
      const opened: OpeningsRefs = { ...resume?.opened };
      const progress: OpeningProgress = { opened, spentMs: resume?.spentMs ?? 0 };
      for (const { uuid } of on.nodes) {
        if (opened[uuid]) continue;
        const call: Omit<AgentCall, 'signal'> = {
          method: 'POST',
          path: '/povw/open',
          withinMs: OPENINGS_ANSWER_MS,
          maxAnswerBytes: maxBytes[uuid] ?? 0,
          body: { session: on.session, gpu_uuid: uuid, samples: samples[uuid] },
        };
        const answer = await askAgain(agentOf(on), call, progress, budgetMs);
        if (answer.kind !== 'answered') return answer;
        const sha256 = createHash('sha256').update(answer.value).digest('hex');
        const key = openingsKey(on.session, sha256);
        await beating(() => blobs.put(key, answer.value), progress);
        opened[uuid] = { key, sha256 };
        heartbeat(progress);
      }
      return { kind: 'answered', value: opened, elapsedMs: progress.spentMs };
    },

    /** Returns once the memory is free. Throws when the agent does not say so: a session that stays behind expires there. */
    async releaseAgent(on: OnAgent): Promise<void> {
      const answer = await agents.call(agentOf(on), {
        method: 'DELETE',
        path: `/povw/${on.session}`,
        purpose: 'graval',
        withinMs: 10_000,
        maxAnswerBytes: 1024,
      });
      if (answer.kind !== 'answered') throw new Error(`the agent did not release its GPUs: ${answer.detail}`);
    },
  };
}
export type NodeActivities = ReturnType<typeof createNodeActivities>;

const provableNode = (node: AnnouncedNode): ProvableNode => ({
  uuid: node.uuid,
  gpuType: node.gpuIdentifier.toLowerCase(),
  vramBytes: soldVramBytes(node.gpuIdentifier),
  name: node.name,
  memory: node.memory,
  clockRate: node.clockRate,
  deviceIndex: node.deviceIndex,
  host: node.verificationHost,
  port: node.verificationPort,
});
