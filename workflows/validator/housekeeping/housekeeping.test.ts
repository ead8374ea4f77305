import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import type { HousekeepingActivities } from '../../../activities/validator/housekeeping/housekeeping-activities.ts';
import { createTimeSkippingEnvironment } from '../../../workers/testing/workflow-environment.ts';
import type { housekeeping } from './housekeeping.ts';

let env: TestWorkflowEnvironment;
beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  env = await createTimeSkippingEnvironment();
}, 60_000);
afterAll(() => env.teardown());

test('a sweep is tried again, and given up in time for the next one', async () => {
  const swept = { events: 1, seen_signatures: 2, signup_attempts: 3, quota_usage: 4 };
  let failures = 1;
  let proofFailures = 1;
  const activities: HousekeepingActivities = {
    sweepOldRows: async () => {
      if (failures-- > 0) throw new Error('the database is away');
      return swept;
    },
    sweepOldProofs: async () => {
      if (proofFailures-- > 0) throw new Error('the store is away');
      return { deleted: 1 };
    },
  };
  const taskQueue = 'housekeeping-test';
  const worker = await Worker.create({
    connection: env.nativeConnection,
    taskQueue,
    workflowsPath: join(import.meta.dirname, 'housekeeping.ts'),
    activities,
  });
  const start = () =>
    env.client.workflow.start<typeof housekeeping>('housekeeping', { taskQueue, workflowId: randomUUID() });
  await worker.runUntil(async () => {
    expect(await (await start()).result()).toEqual(swept);
    expect(proofFailures).toBeLessThan(0);
    failures = Infinity;
    const failing = await start();
    await expect(failing.result()).rejects.toThrow();
    const { startTime, closeTime } = await failing.describe();
    expect((closeTime?.getTime() ?? Infinity) - startTime.getTime()).toBeLessThan(3_600_000);
  });
});
