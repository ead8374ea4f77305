import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ApplicationFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { bundleWorkflowCode, Worker, type WorkflowBundleWithSourceMap } from '@temporalio/worker';
import type { DeploymentActivities } from '../../../activities/miner/deployments/deployment-activities.ts';
import { createTimeSkippingEnvironment } from '../../../workers/testing/workflow-environment.ts';
import { deploymentWorkflowId } from '../../ids.ts';
import { deploymentLifecycle } from './deployment-lifecycle.ts';
import { deploymentStatus, instanceFact, stopDeployment, type DeploymentInput } from './messages.ts';

let env: TestWorkflowEnvironment;
let bundle: WorkflowBundleWithSourceMap;
beforeAll(async () => {
  env = await createTimeSkippingEnvironment();
  bundle = await bundleWorkflowCode({ workflowsPath: new URL('../../miner.ts', import.meta.url).pathname });
}, 60_000);
afterAll(() => env.teardown());

const HOUR_MS = 3_600_000;
type Name = keyof DeploymentActivities;

/** The outside, remembered: what is reserved, what runs, in which order things were done. */
function outside(over: Partial<DeploymentActivities> = {}) {
  const world = { calls: [] as string[], hasRow: false, isRunning: false, code: '' };
  const activities: DeploymentActivities = {
    reserve: async () => {
      world.hasRow = true;
      return { kind: 'reserved', serverId: 's1' };
    },
    requestLaunch: async () => ({ kind: 'permitted', configId: 'k1' }),
    createInstance: async () => void (world.isRunning = true),
    observe: async () => ({
      compute: 'running',
      exitCode: null,
      instance: { instanceId: 'i1', isVerified: true, isActive: true },
    }),
    recordFact: async () => {},
    markTerminating: async ({ code }) => void (world.code = code),
    deleteRemoteInstance: async () => {},
    stopInstance: async () => void (world.isRunning = false),
    forgetDeployment: async () => {
      if (world.isRunning) throw new Error('GPUs freed under a running process');
      world.hasRow = false;
    },
    ...over,
  };
  for (const name of Object.keys(activities) as Name[]) {
    const activity = activities[name] as (input: never) => Promise<unknown>;
    Object.assign(activities, {
      [name]: (input: never) => {
        if (world.calls.at(-1) !== name) world.calls.push(name);
        return activity(input);
      },
    });
  }
  return { world, activities };
}

const inputOf = (over: Partial<DeploymentInput> = {}): DeploymentInput => ({
  deploymentId: randomUUID(),
  chuteId: 'c1',
  version: 'v1',
  onlyServerId: null,
  settings: { stubDeadlineMs: 1_800_000, pollMs: 5000 },
  ...over,
});

async function running<Result>(
  activities: Partial<DeploymentActivities>,
  work: (start: (input: DeploymentInput) => ReturnType<typeof startIt>) => Promise<Result>,
): Promise<Result> {
  const taskQueue = randomUUID();
  const worker = await Worker.create({
    connection: env.nativeConnection,
    taskQueue,
    workflowBundle: bundle,
    activities,
  });
  return worker.runUntil(work((input) => startIt(taskQueue, input)));
}
const startIt = (taskQueue: string, input: DeploymentInput) =>
  env.client.workflow.start(deploymentLifecycle, {
    taskQueue,
    workflowId: deploymentWorkflowId(input.deploymentId),
    args: [input],
  });
const ran = (activities: Partial<DeploymentActivities>, over: Partial<DeploymentInput> = {}) =>
  running(activities, async (start) => (await start(inputOf(over))).result());

const REMOVAL = ['markTerminating', 'deleteRemoteInstance', 'stopInstance', 'forgetDeployment'];

test('launches, becomes active, and ends in order when it is told to', async () => {
  const { world, activities } = outside();
  const code = await running(activities, async (start) => {
    const handle = await start(inputOf());
    await env.sleep('1 minute');
    expect(await handle.query(deploymentStatus)).toMatchObject({
      phase: 'active',
      instanceId: 'i1',
      configId: 'k1',
      serverId: 's1',
    });
    await handle.signal(stopDeployment, { code: 'instance_deleted' });
    return handle.result();
  });
  expect(code).toBe('instance_deleted');
  expect(world.calls).toEqual(['reserve', 'requestLaunch', 'createInstance', 'observe', 'recordFact', ...REMOVAL]);
});

test('423: it stops quietly, and nothing stays reserved', async () => {
  const { world, activities } = outside({
    requestLaunch: async () => ({ kind: 'refused', status: 423, detail: 'not scalable' }),
  });
  expect(await ran(activities)).toBe('launch_refused');
  expect(world).toMatchObject({ hasRow: false, code: 'launch_refused' });
  expect(world.calls).not.toContain('createInstance');
});

test('no GPUs: nothing was made, nothing is undone', async () => {
  const { world, activities } = outside({ reserve: async () => ({ kind: 'no_gpus', why: 'no_server' }) });
  expect(await ran(activities)).toBe('no_gpus');
  expect(world.calls).toEqual(['reserve']);
});

test('never activated: it ends at its deadline', async () => {
  const { world, activities } = outside({
    observe: async () => ({ compute: 'running', exitCode: null, instance: null }),
  });
  const tookMs = await running(activities, async (start) => {
    const handle = await start(inputOf());
    expect(await handle.result()).toBe('activation_timeout');
    const { startTime, closeTime } = await handle.describe();
    return (closeTime?.getTime() ?? 0) - startTime.getTime();
  });
  expect(tookMs).toBeGreaterThanOrEqual(1_800_000);
  expect(tookMs).toBeLessThan(1_900_000);
  expect(world).toMatchObject({ hasRow: false, isRunning: false });
});

test('a process that ends before it is active is not waited for', async () => {
  const { world, activities } = outside({ observe: async () => ({ compute: 'exited', exitCode: 1, instance: null }) });
  expect(await ran(activities)).toBe('process_exited');
  expect(world.hasRow).toBe(false);
});

test('a blind look at the driver ends nothing', async () => {
  let looks = 0;
  const { activities } = outside({
    observe: async () =>
      ++looks < 5
        ? { compute: 'unknown', exitCode: null, instance: null }
        : { compute: 'running', exitCode: null, instance: { instanceId: 'i1', isVerified: true, isActive: true } },
  });
  await running(activities, async (start) => {
    const handle = await start(inputOf());
    await env.sleep('2 minutes');
    expect(await handle.query(deploymentStatus)).toMatchObject({ phase: 'active' });
    await handle.signal(stopDeployment, { code: 'operator_requested' });
    await handle.result();
  });
});

test('the validator is away for an hour: the removal waits its share, then the GPUs are free all the same', async () => {
  const { world, activities } = outside({
    deleteRemoteInstance: async () => {
      throw new Error('ECONNREFUSED');
    },
  });
  await running(activities, async (start) => {
    const handle = await start(inputOf());
    await env.sleep('1 minute');
    await handle.signal(stopDeployment, { code: 'operator_requested' });
    await handle.result();
  });
  expect(world).toMatchObject({ hasRow: false, isRunning: false });
});

test('GPUs are not free while the process cannot be stopped, however long that takes', async () => {
  const since = await env.currentTimeMs();
  const { world, activities } = outside({
    stopInstance: async () => {
      if ((await env.currentTimeMs()) - since < HOUR_MS) throw new Error('device busy');
      world.isRunning = false;
    },
  });
  await running(activities, async (start) => {
    const handle = await start(inputOf());
    await env.sleep('1 minute');
    await handle.signal(stopDeployment, { code: 'operator_requested' });
    await env.sleep('30 minutes');
    expect(world.hasRow).toBe(true);
    await handle.result();
  });
  expect(world.hasRow).toBe(false);
});

const failing = async (): Promise<never> => {
  throw ApplicationFailure.nonRetryable('it failed', 'test');
};
test.each<[Name, string]>([
  ['reserve', 'no_gpus'],
  ['requestLaunch', 'launch_refused'],
  ['createInstance', 'create_failed'],
  ['observe', 'activation_timeout'],
])('%s fails for good: everything done before is undone', async (name, code) => {
  const { world, activities } = outside();
  const real = activities[name] as (input: never) => Promise<unknown>;
  // The worst kind: the effect happened, and the answer was lost.
  const lost = async (input: never): Promise<never> => {
    await real(input);
    return failing();
  };
  expect(await ran({ ...activities, [name]: lost })).toBe(code);
  expect(world).toMatchObject({ hasRow: false, isRunning: false });
  expect(world.calls.slice(-4)).toEqual(REMOVAL);
});

test.each<Name>([
  'reserve',
  'requestLaunch',
  'createInstance',
  'observe',
  'recordFact',
  'markTerminating',
  'deleteRemoteInstance',
  'stopInstance',
  'forgetDeployment',
])('a worker dies in %s: the next attempt carries on', async (name) => {
  const { world, activities } = outside();
  const real = activities[name] as (input: never) => Promise<unknown>;
  let attempts = 0;
  const once = async (input: never): Promise<unknown> => {
    const answer = await real(input);
    if (++attempts === 1) throw new Error('killed after the effect');
    return answer;
  };
  const code = await running({ ...activities, [name]: once }, async (start) => {
    const handle = await start(inputOf());
    await env.sleep('1 minute');
    await handle.signal(stopDeployment, { code: 'operator_requested' });
    return handle.result();
  });
  expect(code).toBe('operator_requested');
  expect(attempts).toBeGreaterThan(1);
  expect(world).toMatchObject({ hasRow: false, isRunning: false });
});

test('told to stop while it starts: it waits for the start to end, then removes what was made', async () => {
  const { world, activities } = outside({
    createInstance: async () => {
      await new Promise((resolve) => setTimeout(resolve, 300)); // still at it when the signal comes
      world.isRunning = true;
    },
  });
  const code = await running(activities, async (start) => {
    const handle = await start(inputOf());
    while (!world.calls.includes('createInstance')) await new Promise((resolve) => setTimeout(resolve, 10));
    await handle.signal(stopDeployment, { code: 'chute_deleted' });
    return handle.result();
  });
  expect(code).toBe('chute_deleted');
  expect(world).toMatchObject({ hasRow: false, isRunning: false });
});

test('what is left of a lost workflow is only its removal', async () => {
  const { world, activities } = outside();
  Object.assign(world, { hasRow: true, isRunning: true });
  expect(await ran(activities, { resumeStop: 'orphaned' })).toBe('orphaned');
  expect(world.calls).toEqual(REMOVAL);
});

test('an event is believed before any look, another instance’s is not, and the successor starts when the GPUs are free', async () => {
  const { world, activities } = outside({
    observe: async () => ({ compute: 'running', exitCode: null, instance: null }),
  });
  const next = randomUUID();
  await running(activities, async (start) => {
    const handle = await start(inputOf());
    await env.sleep('1 minute');
    await handle.signal(instanceFact, { fact: 'bound', instanceId: 'i1' });
    await handle.signal(instanceFact, { fact: 'activated', instanceId: 'other' });
    expect(await handle.query(deploymentStatus)).toMatchObject({ phase: 'activating', isActive: false });
    await handle.signal(instanceFact, { fact: 'activated', instanceId: 'i1' });
    await env.sleep('1 second');
    expect(await handle.query(deploymentStatus)).toMatchObject({ phase: 'active' });
    const successor = { deploymentId: next, chuteId: 'c1', version: 'v2', onlyServerId: 's1' };
    await handle.signal(stopDeployment, { code: 'rolling_update', successor });
    await handle.result();
    const successorHandle = env.client.workflow.getHandle(deploymentWorkflowId(next));
    await env.sleep('7 seconds');
    expect(await successorHandle.query(deploymentStatus)).toMatchObject({ phase: 'activating' });
    await successorHandle.signal(stopDeployment, { code: 'operator_requested' });
    expect(await successorHandle.result()).toBe('operator_requested');
  });
  expect(world.calls.indexOf('forgetDeployment')).toBeLessThan(world.calls.lastIndexOf('reserve'));
});
