import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ApplicationFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import type { NodeActivities } from '../../../activities/validator/nodes/node-activities.ts';
import { workflowBundle } from '../../../workers/bundle.ts';
import { createTimeSkippingEnvironment } from '../../../workers/testing/workflow-environment.ts';
import type { ProofSession, ProofSessionActivities, ProofVerificationActivities } from '../../domain/proof/plugin.ts';
import { PROFILES } from '../../domain/proof/profiles.ts';
import { nodeRegistrationWorkflowId, nodeWorkflowId } from '../../ids.ts';
import { TASK_QUEUES } from '../../task-queues.ts';
import {
  deleteNode,
  nodeStatus,
  registerNodes,
  verifyNow,
  type NodePolicy,
  type NodeState,
  type ProvableNode,
} from './messages.ts';
import { nodeLifecycle } from './node-lifecycle.ts';
import { nodeRegistration } from './node-registration.ts';

type Activities = NodeActivities & ProofSessionActivities & ProofVerificationActivities;
const policy: NodePolicy = {
  plugin: 'simulated',
  reverifyEveryMs: 100_000,
  silenceGraceMs: 120_000,
  retryEveryMs: 5000,
  lostRetryEveryMs: 600_000,
};

let env: TestWorkflowEnvironment;
let workers: Worker[];
let running: Promise<unknown>;
let world = outside();

beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  env = await createTimeSkippingEnvironment();
  const bundle = await workflowBundle(
    join(import.meta.dirname, '../../../workers/testing/node-workflows.ts'),
    join(import.meta.dirname, '../../../.canopy/test-bundles'),
  );
  const names = Object.keys(world.activities) as (keyof Activities)[];
  const late = Object.fromEntries(names.map((name) => [name, (input: never) => world.activities[name](input)]));
  const connection = env.nativeConnection;
  workers = [
    await Worker.create({ connection, taskQueue: TASK_QUEUES.validator, workflowBundle: bundle, activities: late }),
    await Worker.create({ connection, taskQueue: TASK_QUEUES.gpu, activities: late }),
  ];
  running = Promise.all(workers.map((worker) => worker.run()));
}, 120_000);
afterAll(async () => {
  for (const worker of workers) worker.shutdown();
  await running;
  await env.teardown();
}, 60_000);

/** An agent that proves, a store that remembers what was recorded, and no instance anywhere, unless a test says otherwise. */
function outside(over: Partial<Activities> = {}) {
  const rows = new Map<string, string>();
  const recorded: string[] = [];
  const proofs: number[] = [];
  const session = (uuids: string[]): ProofSession => ({
    plugin: 'simulated',
    deadlineMs: 1,
    roots: null,
    nonce2: null,
    walks: null,
    samples: null,
    challenges: uuids.map((gpuUuid) => ({
      binding: {
        validatorNonce: '',
        configId: '',
        minerHotkey: '',
        gpuUuid,
        gpuType: '',
        vramBytes: 0,
        transportPublicKey: '',
      },
      profile: PROFILES['tiny-a'],
    })),
  });
  const mark = (uuids: string[], status: string) => {
    recorded.push(status);
    for (const uuid of uuids) if (rows.has(uuid)) rows.set(uuid, status);
  };
  const activities: Activities = {
    insertNodes: async ({ nodes }) => {
      for (const { uuid } of nodes) rows.set(uuid, 'announced');
      return nodes.map(({ uuid }) => provable(uuid));
    },
    recordNodesChallenged: async ({ uuids }) => mark(uuids, 'challenged'),
    recordNodesVerified: async ({ uuids }) => mark(uuids, 'verified'),
    recordNodesFailed: async ({ uuids, status }) => mark(uuids, status),
    lookUpNode: async ({ uuid }) => ({ status: rows.get(uuid) ?? 'gone', instanceId: null }),
    forgetNode: async ({ uuid }) => void rows.delete(uuid),
    askDeviceInfo: async () => ({ kind: 'answered', value: null, elapsedMs: 1 }),
    commitOnAgents: async ({ nodes }) => {
      proofs.push(nodes.length);
      return { kind: 'answered', value: {}, elapsedMs: 1 };
    },
    walkOnAgents: async () => ({ kind: 'answered', value: {}, elapsedMs: 1 }),
    openOnAgents: async () => ({ kind: 'answered', value: { key: 'k', sha256: 's' }, elapsedMs: 1 }),
    releaseAgents: async () => {},
    beginProof: async ({ gpus }) => session(gpus.map(({ uuid }) => uuid)),
    acceptCommit: async ({ session: now }) => ({ ...now, nonce2: 'n' }),
    acceptWalk: async ({ session: now }) => ({ ...now, samples: {} }),
    verifyProof: async ({ session: now }) => ({
      verified: true,
      trustLevel: 'simulated',
      verdicts: now.challenges.map(({ binding }) => ({ gpuUuid: binding.gpuUuid, verified: true, samplesChecked: 8 })),
    }),
    ...over,
  };
  return { activities, rows, recorded, proofs };
}
const use = (over: Partial<Activities> = {}) => (world = outside(over));
const silent = async () => ({ kind: 'silent' as const, detail: 'no answer' });

const newUuid = (): string => randomUUID().replaceAll('-', '');
function provable(uuid: string): ProvableNode {
  return {
    uuid,
    gpuType: 'h100',
    vramBytes: 80e9,
    name: 'n',
    memory: 1,
    clockRate: 1,
    deviceIndex: 0,
    host: '127.0.0.1',
    port: 80,
  };
}
const announced = (uuid: string) => ({
  uuid,
  name: 'n',
  memory: 1,
  major: null,
  minor: null,
  processors: null,
  sxm: null,
  clockRate: 1,
  maxThreadsPerProcessor: null,
  concurrentKernels: null,
  ecc: null,
  deviceIndex: 0,
  gpuIdentifier: 'h100',
  verificationHost: '127.0.0.1',
  verificationPort: 80,
});

async function register(uuids: string[]) {
  const taskId = randomUUID();
  const handle = await env.client.workflow.start(nodeRegistration, {
    workflowId: nodeRegistrationWorkflowId(taskId),
    taskQueue: TASK_QUEUES.validator,
    args: [{ taskId, minerHotkey: 'miner', policy }],
  });
  const accepted = handle.executeUpdate(registerNodes, {
    args: [{ serverId: 'server', serverName: null, nodes: uuids.map(announced), receivedAtMs: 0 }],
  });
  return { handle, accepted };
}
/** A life of its own, verified before, so that only what comes after is under test. */
async function live(uuid: string, resume: Partial<NodeState> = {}) {
  world.rows.set(uuid, 'verified');
  return env.client.workflow.start(nodeLifecycle, {
    workflowId: nodeWorkflowId(uuid),
    taskQueue: TASK_QUEUES.validator,
    args: [
      {
        node: provable(uuid),
        taskId: randomUUID(),
        minerHotkey: 'miner',
        serverId: null,
        policy,
        awaitsRegistration: false,
        resume: {
          status: 'verified',
          reason: null,
          attempts: 1,
          lastVerifiedAtMs: 1,
          silentSinceMs: null,
          isUnclear: false,
          proof: null,
          ...resume,
        },
      },
    ],
  });
}
const endLife = (uuid: string) =>
  env.client.workflow.getHandle(nodeWorkflowId(uuid)).executeUpdate(deleteNode, { args: [{ minerHotkey: 'miner' }] });
/** Not by an update: one that ends its workflow keeps the test server's clock from skipping for ever after. */
const stop = (uuid: string) => env.client.workflow.getHandle(nodeWorkflowId(uuid)).terminate();
/** Lets time pass in steps until it holds: a sleep ends when the clock got there, not when the workers did. */
async function passUntil(holds: () => Promise<boolean> | boolean): Promise<void> {
  for (let steps = 0; steps < 400; steps++) {
    if (await holds()) return;
    await env.sleep(5000);
  }
  throw new Error('it never came to hold');
}
const stateOf = (uuid: string): Promise<NodeState> =>
  env.client.workflow.getHandle(nodeWorkflowId(uuid)).query(nodeStatus);

// First the tests that let time pass by sleeping: a failed activity keeps the test server's clock from skipping afterwards.

test('a GPU is proven again every period, and only when no instance runs on it', async () => {
  const order: string[] = [];
  use({
    lookUpNode: async () => {
      const instanceId = order.length === 0 ? 'instance' : null;
      order.push(instanceId ? 'busy' : 'free');
      return { status: 'verified', instanceId };
    },
    commitOnAgents: async () => {
      order.push('proof');
      return { kind: 'answered', value: {}, elapsedMs: 1 };
    },
  });
  const uuid = newUuid();
  await live(uuid);
  await passUntil(() => world.recorded.length >= 1);
  expect(order.slice(0, 3)).toEqual(['busy', 'free', 'proof']);
  expect(world.recorded[0]).toBe('verified');
  await stop(uuid);
}, 60_000);

test('a silent agent: lost after the grace, not before; back when it answers again', async () => {
  let asked = 0;
  let isSilent = true;
  use({
    askDeviceInfo: async () => {
      asked++;
      return isSilent ? { kind: 'silent', detail: 'no answer' } : { kind: 'answered', value: null, elapsedMs: 1 };
    },
  });
  const uuid = newUuid();
  const handle = await live(uuid);
  await handle.signal(verifyNow);
  await passUntil(() => asked >= 2);
  expect(world.recorded).toEqual([]);
  await passUntil(async () => (await stateOf(uuid)).status === 'lost');
  expect(asked).toBeGreaterThan(10);
  expect(world.recorded).toEqual(['lost']);
  isSilent = false;
  await passUntil(async () => (await stateOf(uuid)).status === 'verified');
  expect(world.recorded).toEqual(['lost', 'verified']);
  await stop(uuid);
}, 60_000);

test('a later wrong proof takes the verification away; the next right one gives it back', async () => {
  let wrong = true;
  const right = outside().activities.verifyProof;
  use({
    verifyProof: async (input) =>
      wrong ? { verified: false, reason: 'walk_entry_differs', verdicts: [] } : right(input),
  });
  const uuid = newUuid();
  await live(uuid);
  await passUntil(async () => (await stateOf(uuid)).status === 'failed');
  expect(await stateOf(uuid)).toMatchObject({ reason: 'walk_entry_differs' });
  wrong = false;
  await passUntil(async () => (await stateOf(uuid)).status === 'verified');
  await stop(uuid);
}, 60_000);

test('all GPUs of a registration are proven in one proof, and each lives on by itself', async () => {
  use();
  const uuids = [newUuid(), newUuid()];
  const { handle, accepted } = await register(uuids);
  expect(await accepted).toEqual({ uuids });
  expect(await handle.result()).toMatchObject({ status: 'verified', uuids, attempts: 1 });
  expect(world.proofs).toEqual([2]);
  expect(world.recorded).toEqual(['challenged', 'verified']);
  for (const uuid of uuids) {
    await env.sleep(1000);
    expect(await stateOf(uuid)).toMatchObject({
      status: 'verified',
      attempts: 1,
      proof: { gpus: [{ gpuUuid: uuid }] },
    });
    await stop(uuid);
  }
}, 60_000);

test('a registration whose nodes never arrive ends by itself', async () => {
  use();
  const taskId = randomUUID();
  expect(
    await env.client.workflow.execute(nodeRegistration, {
      workflowId: nodeRegistrationWorkflowId(taskId),
      taskQueue: TASK_QUEUES.validator,
      args: [{ taskId, minerHotkey: 'm', policy }],
    }),
  ).toMatchObject({ status: 'refused' });
}, 60_000);

test.each<[string, Partial<Activities>, string, number]>([
  [
    'a wrong proof fails at once',
    { verifyProof: async () => ({ verified: false, reason: 'fill_entry_differs', verdicts: [] }) },
    'fill_entry_differs',
    1,
  ],
  [
    'a late walk fails at once',
    {
      acceptWalk: async () => {
        throw ApplicationFailure.nonRetryable('walk took too long', 'proof.refused');
      },
    },
    'walk took too long',
    1,
  ],
  [
    'other devices fail at once',
    { askDeviceInfo: async () => ({ kind: 'refused', detail: 'not the announced device' }) },
    'not the announced device',
    1,
  ],
  ['silence once the samples are known fails at once', { openOnAgents: silent }, 'open: no answer', 1],
  ['silence before that fails after the grace', { commitOnAgents: silent }, 'commit: no answer', 25],
])(
  '%s',
  async (_, over, reason, attempts) => {
    use(over);
    const uuid = newUuid();
    const { handle, accepted } = await register([uuid]);
    await accepted;
    const result = await handle.result();
    expect(result).toMatchObject({ status: 'failed', reason: expect.stringContaining(reason) as unknown });
    expect(result.attempts).toBeLessThanOrEqual(attempts);
    if (attempts > 1) expect(result.attempts).toBeGreaterThan(2);
    expect(world.recorded).toEqual(['challenged', 'failed']);
    await env.sleep(1000);
    expect(await stateOf(uuid)).toMatchObject({ status: 'failed' });
    await stop(uuid);
  },
  60_000,
);

test("the validator's own fault blames nobody: a new proof is made until one ends", async () => {
  let faults = 0;
  use({
    commitOnAgents: async () => {
      if (faults++ < 3) throw ApplicationFailure.nonRetryable('worker died');
      return { kind: 'answered', value: {}, elapsedMs: 1 };
    },
  });
  const uuid = newUuid();
  const { handle, accepted } = await register([uuid]);
  await accepted;
  expect(await handle.result()).toMatchObject({ status: 'verified', attempts: 4 });
  await stop(uuid);
}, 60_000);

test('a life whose row is gone ends at its next look', async () => {
  use();
  const uuid = newUuid();
  const handle = await live(uuid);
  world.rows.delete(uuid);
  await handle.signal(verifyNow);
  expect(await handle.result()).toMatchObject({ status: 'deleted', reason: 'its row is gone' });
}, 60_000);

test('refused nodes end the registration, and no life begins', async () => {
  use({
    insertNodes: async () => {
      throw ApplicationFailure.nonRetryable('taken', 'resource.conflict');
    },
  });
  const { handle, accepted } = await register([newUuid()]);
  await expect(accepted).rejects.toMatchObject({ cause: { cause: expect.anything() as unknown } });
  expect(await handle.result()).toMatchObject({ status: 'refused' });
  expect(world.proofs).toEqual([]);
}, 60_000);

test('a deletion is refused while an instance runs, and ends the life when it is not', async () => {
  let inUse = true;
  use({
    forgetNode: async () => {
      if (inUse) throw ApplicationFailure.nonRetryable('in use', 'resource.conflict');
    },
  });
  const uuid = newUuid();
  const handle = await live(uuid);
  await expect(endLife(uuid)).rejects.toMatchObject({ cause: { cause: expect.anything() as unknown } });
  expect(await stateOf(uuid)).toMatchObject({ status: 'verified' });
  inUse = false;
  expect(await endLife(uuid)).toEqual({ deleted: true });
  expect(await handle.result()).toMatchObject({ status: 'deleted' });
}, 60_000);
