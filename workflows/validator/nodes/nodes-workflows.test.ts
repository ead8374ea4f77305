import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ApplicationFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime } from '@temporalio/worker';
import {
  announced,
  newUuid,
  outside,
  passUntil,
  policy,
  provable,
  startLife,
  startNodeWorkers,
  stateOf,
  TASK,
  type NodeWorldActivities,
} from '../../../workers/testing/node-world.ts';
import { createTimeSkippingEnvironment } from '../../../workers/testing/workflow-environment.ts';
import { nodeRegistrationWorkflowId, nodeWorkflowId } from '../../ids.ts';
import { TASK_QUEUES } from '../../task-queues.ts';
import { deleteNode, registerNodes, swept, verifyNow, type NodeState, type VerificationOutcome } from './messages.ts';
import { nodeRegistration } from './node-registration.ts';

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

const verifiedOutcome = (gpuUuid: string): VerificationOutcome => ({
  kind: 'verified',
  atMs: 2,
  summary: {
    trustLevel: 'simulated',
    fillMs: 1,
    walkMs: 1,
    gpus: [{ gpuUuid, bytesFilled: 1, samplesChecked: 8, verified: true, reason: null }],
  },
});
const silent = async () => ({ kind: 'silent' as const, detail: 'no answer' });

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
const live = (uuid: string, resume: Partial<NodeState> = {}) => {
  world.rows.set(uuid, 'verified');
  return startLife(env, uuid, resume);
};
const endLife = (uuid: string) =>
  env.client.workflow.getHandle(nodeWorkflowId(uuid)).executeUpdate(deleteNode, { args: [{ minerHotkey: 'miner' }] });
/** Not by an update: one that ends its workflow keeps the test server's clock from skipping for ever after. */
const stop = (uuid: string) => env.client.workflow.getHandle(nodeWorkflowId(uuid)).terminate();
// First the tests that let time pass by sleeping: a failed activity keeps the test server's clock from skipping afterwards.

test('a GPU that no sweep has proven for two periods asks for one, and is never proven alone', async () => {
  use();
  const uuid = newUuid();
  await live(uuid);
  await passUntil(env, () => world.requested.length >= 2);
  expect(world.proofs).toEqual([]);
  await stop(uuid);
}, 60_000);

test('nothing is asked of a GPU that an instance runs on', async () => {
  let looks = 0;
  use({
    lookUpNode: async () => {
      looks++;
      return { status: 'verified', instanceId: looks < 3 ? 'instance' : null };
    },
  });
  const uuid = newUuid();
  await live(uuid);
  await passUntil(env, () => world.requested.length >= 1);
  expect(looks).toBe(3);
  await stop(uuid);
}, 60_000);

const told = (uuid: string, outcome: VerificationOutcome, taskId = TASK) => ({ uuid, taskId, outcome });
const wrong = { kind: 'failed' as const, reason: 'walk_entry_differs', atMs: 1, summary: null };

test('lost in a sweep: asked whether it is there, and a sweep is asked for once it answers; a whole proof brings it back', async () => {
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
  await handle.signal(swept, told(uuid, { kind: 'silent', reason: 'commit: no answer' }));
  await passUntil(env, async () => (await stateOf(env, uuid)).status === 'lost');
  await passUntil(env, () => asked >= 3);
  expect(world.requested).toEqual([]); // nobody's other GPUs are proven for one that is gone
  isSilent = false;
  await passUntil(env, () => world.requested.length > 0);
  expect((await stateOf(env, uuid)).status).toBe('lost'); // talking is not proving
  await handle.signal(swept, told(uuid, verifiedOutcome(uuid)));
  await passUntil(env, async () => (await stateOf(env, uuid)).status === 'verified');
  await stop(uuid);
}, 60_000);

test('a wrong proof takes the verification away; it asks for another less and less often; a right one gives it back', async () => {
  use();
  const uuid = newUuid();
  const handle = await live(uuid);
  await handle.signal(swept, told(uuid, wrong));
  await passUntil(env, async () => (await stateOf(env, uuid)).status === 'failed');
  expect(await stateOf(env, uuid)).toMatchObject({ reason: 'walk_entry_differs', failures: 1 });
  await passUntil(env, () => world.requested.length === 1);
  await handle.signal(swept, told(uuid, wrong));
  await passUntil(env, async () => (await stateOf(env, uuid)).failures === 2);
  await handle.signal(swept, told(uuid, verifiedOutcome(uuid)));
  await passUntil(env, async () => (await stateOf(env, uuid)).status === 'verified');
  expect(await stateOf(env, uuid)).toMatchObject({ failures: 0, reason: null });
  expect(world.recorded).toEqual([]); // the sweep has written the rows
  await stop(uuid);
}, 60_000);

test('what a sweep proved of an earlier registration says nothing of this one', async () => {
  use();
  const uuid = newUuid();
  const handle = await live(uuid, { status: 'failed', reason: 'wrong', failures: 1 });
  await handle.signal(swept, told(uuid, verifiedOutcome(uuid), randomUUID()));
  await handle.signal(swept, told(uuid, wrong));
  await passUntil(env, async () => (await stateOf(env, uuid)).failures === 2);
  expect(await stateOf(env, uuid)).toMatchObject({ status: 'failed', attempts: 2 });
  await stop(uuid);
}, 60_000);

test("the validator's own fault in a sweep changes nothing but asks again", async () => {
  use();
  const uuid = newUuid();
  const handle = await live(uuid);
  await handle.signal(swept, told(uuid, { kind: 'unclear', reason: 'the store was away' }));
  await passUntil(env, () => world.requested.length >= 1);
  expect(await stateOf(env, uuid)).toMatchObject({ status: 'verified', isUnclear: true });
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
  expect(world.requested).toEqual([policy.sweepAfterRegistrationMs]); // soon together with the miner's other GPUs
  for (const uuid of uuids) {
    await env.sleep(1000);
    expect(await stateOf(env, uuid)).toMatchObject({
      status: 'verified',
      attempts: 1,
      proof: { gpus: [{ gpuUuid: uuid }] },
    });
    await stop(uuid);
  }
}, 60_000);

test('GPUs of one registration on two hosts, and of two types, walk only when all have filled', async () => {
  const order: string[] = [];
  const slow = Promise.withResolvers<void>();
  use({
    insertNodes: async ({ nodes }) => {
      for (const { uuid } of nodes) world.rows.set(uuid, 'announced');
      return nodes.map(({ uuid }, at) => provable(uuid, at === 0 ? {} : at === 1 ? { host: 'b' } : { gpuType: 'l40' }));
    },
    commitOnAgent: async () => {
      if (order.length < 2) setTimeout(() => slow.resolve(), 300);
      else await slow.promise;
      order.push('commit');
      return { kind: 'answered', value: {}, elapsedMs: 1 };
    },
    walkOnAgent: async () => {
      order.push('walk');
      return { kind: 'answered', value: { walks: {}, startedAtMs: 0 }, elapsedMs: 1 };
    },
  });
  const uuids = [newUuid(), newUuid(), newUuid()];
  const { handle } = await register(uuids);
  expect(await handle.result()).toMatchObject({ status: 'verified', attempts: 1 });
  expect(order).toEqual(['commit', 'commit', 'commit', 'walk', 'walk', 'walk']);
  for (const uuid of uuids) await stop(uuid);
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

test.each<[string, Partial<NodeWorldActivities>, string, number]>([
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
  ['silence once the samples are known fails at once', { openOnAgent: silent }, 'open: no answer', 1],
  ['silence before that fails after the grace', { commitOnAgent: silent }, 'commit: no answer', 25],
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
    expect(await stateOf(env, uuid)).toMatchObject({ status: 'failed' });
    await stop(uuid);
  },
  60_000,
);

test("the validator's own fault blames nobody: a new proof is made until one ends", async () => {
  let faults = 0;
  use({
    commitOnAgent: async () => {
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
  expect(await stateOf(env, uuid)).toMatchObject({ status: 'verified' });
  inUse = false;
  expect(await endLife(uuid)).toEqual({ deleted: true });
  expect(await handle.result()).toMatchObject({ status: 'deleted' });
}, 60_000);
