import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ApplicationFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime } from '@temporalio/worker';
import {
  idle,
  newUuid,
  outside,
  passUntil,
  policy,
  startLife,
  startNodeWorkers,
  stateOf,
  type NodeWorldActivities,
} from '../../../workers/testing/node-world.ts';
import { createTimeSkippingEnvironment } from '../../../workers/testing/workflow-environment.ts';
import { nodeWorkflowId, sweepWorkflowId } from '../../ids.ts';
import { TASK_QUEUES } from '../../task-queues.ts';
import { dueSweeps } from './due-sweeps.ts';
import {
  deleteNode,
  type IdleNode,
  type MinerSweepInput,
  type MinerSweepState,
  type NodeState,
  type ProvableNode,
} from './messages.ts';
import { minerSweep } from './miner-sweep.ts';

let env: TestWorkflowEnvironment;
let workers: { stop: () => Promise<void> };
let world = outside();
const use = (over: Partial<NodeWorldActivities> = {}) => (world = outside(over));

beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  env = await createTimeSkippingEnvironment();
  workers = await startNodeWorkers(env, () => world);
}, 120_000);
afterAll(async () => {
  await workers.stop();
  await env.teardown();
}, 60_000);

/** Two hosts with two GPUs each, all verified before. */
const fleet = (): [IdleNode, IdleNode, IdleNode, IdleNode] => [
  idle(newUuid(), { host: 'one' }),
  idle(newUuid(), { host: 'one', deviceIndex: 1 }),
  idle(newUuid(), { host: 'two' }),
  idle(newUuid(), { host: 'two', deviceIndex: 1 }),
];
const hostOf = (nodes: readonly ProvableNode[]): string => nodes[0]?.host ?? '';

/** Runs one sweep over nodes whose lives are there; what each came to, in the order of the nodes. */
async function sweep(nodes: IdleNode[], over: Partial<NodeWorldActivities> = {}, input: Partial<MinerSweepInput> = {}) {
  use({ reserveIdleNodes: async () => nodes, ...over });
  for (const { uuid } of nodes) {
    world.rows.set(uuid, 'verified');
    await startLife(env, uuid);
  }
  const result: MinerSweepState = await env.client.workflow.execute(minerSweep, {
    workflowId: sweepWorkflowId(randomUUID()),
    taskQueue: TASK_QUEUES.validator,
    args: [{ minerHotkeys: ['miner'], policy, ...input }],
  });
  const states: NodeState[] = [];
  for (const { uuid } of nodes) {
    await passUntil(env, async () => (await stateOf(env, uuid)).attempts > 1 || !tells(result));
    states.push(await stateOf(env, uuid));
    await env.client.workflow.getHandle(`node/${uuid}`).terminate();
  }
  return { result, states };
}
/** Unclear outcomes are not counted by the life. */
const tells = ({ unclear }: MinerSweepState): boolean => unclear === 0;

test('every host fills before any walks, and all walk then', async () => {
  const nodes = fleet();
  const order: string[] = [];
  const slow = Promise.withResolvers<void>();
  const { result, states } = await sweep(nodes, {
    commitOnAgent: async ({ nodes: group }) => {
      if (hostOf(group) === 'one') setTimeout(() => slow.resolve(), 300);
      else await slow.promise; // the one is ready long before the other
      order.push('commit');
      return { kind: 'answered', value: {}, elapsedMs: 1 };
    },
    walkOnAgent: async () => {
      order.push('walk');
      return { kind: 'answered', value: { walks: {}, startedAtMs: 0 }, elapsedMs: 1 };
    },
  });
  expect(order).toEqual(['commit', 'commit', 'walk', 'walk']);
  expect(result).toMatchObject({ status: 'concluded', gpus: 4, groups: 2, ready: 2, verified: 4, failed: 0 });
  expect(states.map(({ status, attempts }) => ({ status, attempts }))).toEqual(
    nodes.map(() => ({ status: 'verified', attempts: 2 })),
  );
  expect(new Set(world.released)).toEqual(new Set(nodes.map(({ uuid }) => uuid)));
}, 60_000);

test('a wrong opening fails the GPU that gave it and no other', async () => {
  const nodes = fleet();
  const [liar, neighbour] = nodes;
  const { result, states } = await sweep(nodes, {
    verifyProof: async ({ session }) => {
      const verdicts = session.challenges.map(({ binding: { gpuUuid } }) =>
        gpuUuid === liar.uuid
          ? { gpuUuid, verified: false as const, reason: 'walk_entry_differs' }
          : { gpuUuid, verified: true as const, samplesChecked: 8 },
      );
      const lied = verdicts.some(({ verified }) => !verified);
      return lied
        ? { verified: false, reason: 'walk_entry_differs', verdicts }
        : { verified: true, trustLevel: 'simulated', verdicts };
    },
  });
  expect(result).toMatchObject({ verified: 3, failed: 1 });
  expect(states.map(({ status }) => status)).toEqual(['failed', 'verified', 'verified', 'verified']);
  expect(states[0]).toMatchObject({ reason: 'walk_entry_differs', failures: 1 });
  expect(states[1]?.proof).toMatchObject({ trustLevel: 'simulated', gpus: [{ gpuUuid: neighbour.uuid }] });
}, 60_000);

test('a late walk fails every GPU of its group: who lent to whom cannot be told', async () => {
  const nodes = fleet();
  const { states } = await sweep(nodes, {
    acceptWalk: async ({ session }) => {
      if (session.challenges.some(({ binding }) => binding.gpuUuid === nodes[0].uuid))
        throw ApplicationFailure.nonRetryable('walk took 20000 ms', 'proof.refused');
      return { ...session, samples: {} };
    },
  });
  expect(states.map(({ status }) => status)).toEqual(['failed', 'failed', 'verified', 'verified']);
}, 60_000);

test('a host that stays silent holds nobody up and is told so', async () => {
  const nodes = fleet();
  const { result, states } = await sweep(nodes, {
    commitOnAgent: async ({ nodes: group }) =>
      hostOf(group) === 'one' ? { kind: 'silent', detail: 'no answer' } : { kind: 'answered', value: {}, elapsedMs: 1 },
  });
  expect(result).toMatchObject({ verified: 2, lost: 2, ready: 1 });
  expect(states.map(({ status }) => status)).toEqual(['lost', 'lost', 'verified', 'verified']);
}, 60_000);

test('whoever is silent once it has committed has failed: silence would be a second chance', async () => {
  const nodes = fleet();
  const { states } = await sweep(nodes, {
    walkOnAgent: async ({ nodes: group }) =>
      hostOf(group) === 'one'
        ? { kind: 'silent', detail: 'no answer' }
        : { kind: 'answered', value: { walks: {}, startedAtMs: 0 }, elapsedMs: 1 },
  });
  expect(states.map(({ status }) => status)).toEqual(['failed', 'failed', 'verified', 'verified']);
  expect(states[0]).toMatchObject({ reason: 'walk: no answer' });
}, 60_000);

test('walks that did not begin together prove nothing: one card might have served one after the other', async () => {
  const { result, states } = await sweep(fleet(), {
    walkOnAgent: async ({ nodes: group }) => ({
      kind: 'answered',
      value: { walks: {}, startedAtMs: hostOf(group) === 'one' ? 0 : 2001 },
      elapsedMs: 1,
    }),
  });
  expect(result).toMatchObject({ verified: 0, failed: 0, unclear: 4 });
  expect(states.map(({ status, isUnclear }) => ({ status, isUnclear }))).toEqual(
    states.map(() => ({ status: 'verified', isUnclear: true })),
  );
}, 60_000);

test('a group that fills long after the others has missed the window and is lost', async () => {
  const nodes = fleet();
  const walked: string[] = [];
  const late = Promise.withResolvers<void>();
  const { result, states } = await sweep(
    nodes,
    {
      commitOnAgent: async ({ nodes: group }) => {
        if (hostOf(group) === 'two') await late.promise;
        return { kind: 'answered', value: {}, elapsedMs: 1 };
      },
      walkOnAgent: async ({ nodes: group }) => {
        walked.push(hostOf(group));
        late.resolve();
        return { kind: 'answered', value: { walks: {}, startedAtMs: 0 }, elapsedMs: 1 };
      },
    },
    { readyWithinMs: 1500 },
  );
  expect(walked).toEqual(['one']);
  expect(result).toMatchObject({ verified: 2, lost: 2, unclear: 0 });
  expect(states.map(({ status }) => status)).toEqual(['verified', 'verified', 'lost', 'lost']);
}, 60_000);

test("the validator's own fault fails nobody, and nothing stays reserved", async () => {
  const nodes = fleet();
  const { result, states } = await sweep(nodes, {
    commitOnAgent: async () => {
      throw ApplicationFailure.nonRetryable('worker died');
    },
  });
  expect(result).toMatchObject({ verified: 0, failed: 0, unclear: 4 });
  expect(states.map(({ status }) => status)).toEqual(nodes.map(() => 'verified'));
  expect(new Set(world.released)).toEqual(new Set(nodes.map(({ uuid }) => uuid)));
}, 60_000);

test('who broke beside whom is recorded, and who held; a fault of ours counts for nobody', async () => {
  const of = (minerHotkey: string, host: string): IdleNode => ({ ...idle(newUuid(), { host }), minerHotkey });
  const nodes = [of('whole', 'one'), of('half', 'two'), of('half', 'three'), of('ours', 'four')];
  const { result } = await sweep(nodes, {
    commitOnAgent: async ({ nodes: group }) => {
      if (hostOf(group) === 'four') throw ApplicationFailure.nonRetryable('worker died');
      return hostOf(group) === 'three'
        ? { kind: 'silent', detail: 'no answer' }
        : { kind: 'answered', value: {}, elapsedMs: 1 };
    },
  });
  expect(result).toMatchObject({ verified: 2, lost: 1, unclear: 1 });
  expect(world.companies).toHaveLength(1);
  expect(new Set(world.companies[0])).toEqual(
    new Set([
      { minerHotkey: 'whole', gpus: 1, held: true },
      { minerHotkey: 'half', gpus: 2, held: false },
    ]),
  );
}, 60_000);

test("a miner alone in its window is nobody's company", async () => {
  await sweep(fleet());
  expect(world.companies).toEqual([]);
}, 60_000);

test('a GPU whose workflow somebody has ended gets a new one, which knows what the sweep came to', async () => {
  const [node] = fleet();
  use({ reserveIdleNodes: async () => [node] });
  world.rows.set(node.uuid, 'verified');
  await (await startLife(env, node.uuid)).terminate('by hand');
  const result = await env.client.workflow.execute(minerSweep, {
    workflowId: sweepWorkflowId(randomUUID()),
    taskQueue: TASK_QUEUES.validator,
    args: [{ minerHotkeys: ['miner'], policy }],
  });
  expect(result).toMatchObject({ status: 'concluded', verified: 1 });
  const life = env.client.workflow.getHandle(nodeWorkflowId(node.uuid));
  await passUntil(env, async () => (await stateOf(env, node.uuid)).status === 'verified');
  expect(await stateOf(env, node.uuid)).toMatchObject({ status: 'verified', attempts: 1 });
  expect(world.requested).toEqual([]); // it has just been proven: nothing to ask for
  await life.executeUpdate(deleteNode, { args: [{ minerHotkey: 'miner' }] });
  await life.result();
}, 60_000);

test('a new workflow of a GPU that has just failed waits like any other before it asks for a sweep', async () => {
  const [node] = fleet();
  use({ reserveIdleNodes: async () => [node], verifyProof: async () => refused });
  world.rows.set(node.uuid, 'verified');
  await env.client.workflow.execute(minerSweep, {
    workflowId: sweepWorkflowId(randomUUID()),
    taskQueue: TASK_QUEUES.validator,
    args: [{ minerHotkeys: ['miner'], policy }],
  });
  await passUntil(env, () => world.requested.length > 0);
  expect(world.requested).toEqual([policy.retryEveryMs]); // not 0: at once
  expect(await stateOf(env, node.uuid)).toMatchObject({ status: 'failed', failures: 1 });
  await env.client.workflow.getHandle(nodeWorkflowId(node.uuid)).terminate();
}, 60_000);
const refused = { verified: false as const, reason: 'walk_entry_differs' as const, verdicts: [] };

test('a GPU deleted while it was in a sweep stays deleted', async () => {
  const [node] = fleet();
  use({ reserveIdleNodes: async () => [node] }); // neither a row nor a workflow is left
  const result = await env.client.workflow.execute(minerSweep, {
    workflowId: sweepWorkflowId(randomUUID()),
    taskQueue: TASK_QUEUES.validator,
    args: [{ minerHotkeys: ['miner'], policy }],
  });
  expect(result).toMatchObject({ status: 'concluded' });
  expect(await env.client.workflow.getHandle(nodeWorkflowId(node.uuid)).result()).toMatchObject({ status: 'deleted' });
}, 60_000);

test('a miner whose GPUs are all busy is asked nothing, and its next moment is drawn', async () => {
  const { result } = await sweep([]);
  expect(result).toMatchObject({ status: 'concluded', gpus: 0, groups: 0 });
  expect(world.proofs).toEqual([]);
}, 60_000);

test('a cancelled sweep gives its GPUs back', async () => {
  const nodes = fleet();
  const begun = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<never>();
  use({
    reserveIdleNodes: async () => nodes,
    commitOnAgent: () => {
      begun.resolve();
      return ended.promise;
    },
  });
  const handle = await env.client.workflow.start(minerSweep, {
    workflowId: sweepWorkflowId(randomUUID()),
    taskQueue: TASK_QUEUES.validator,
    args: [{ minerHotkeys: ['miner'], policy }],
  });
  await begun.promise;
  await handle.cancel();
  await expect(handle.result()).rejects.toThrow();
  ended.reject(ApplicationFailure.nonRetryable('cancelled')); // the worker waits for it when it shuts down
  expect(new Set(world.released)).toEqual(new Set(nodes.map(({ uuid }) => uuid)));
}, 60_000);

test('each due miner gets a sweep; one that is under way is left alone', async () => {
  const held = Promise.withResolvers<IdleNode[]>();
  const miners = [randomUUID(), randomUUID()];
  let reserved = 0;
  use({
    dueSweepsOf: async () => miners.map((each) => ({ minerHotkey: each, minerHotkeys: [each] })),
    reserveIdleNodes: async () => {
      reserved++;
      return held.promise;
    },
  });
  const look = () =>
    env.client.workflow.execute(dueSweeps, {
      workflowId: `due-${randomUUID()}`,
      taskQueue: TASK_QUEUES.validator,
      args: [{ policy }],
    });
  expect(await look()).toEqual({ started: 2 });
  expect(await look()).toEqual({ started: 0 });
  held.resolve([]);
  for (const miner of miners) {
    expect(await env.client.workflow.getHandle(sweepWorkflowId(miner)).result()).toMatchObject({ gpus: 0 });
  }
  expect(reserved).toBe(2);
}, 60_000);
