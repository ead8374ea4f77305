import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import type {
  MetagraphActivities,
  MetagraphSync,
} from '../../../activities/validator/metagraph/metagraph-activities.ts';
import { removalsAsked, type removalRecorder } from '../../../workers/testing/metagraph-workflows.ts';
import { createTimeSkippingEnvironment } from '../../../workers/testing/workflow-environment.ts';
import { instanceWorkflowId } from '../../ids.ts';
import type { metagraphSync } from './metagraph-sync.ts';

let env: TestWorkflowEnvironment;
beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  env = await createTimeSkippingEnvironment();
}, 60_000);
afterAll(() => env.teardown());

test('each orphan is asked to go; one whose workflow ended keeps none of the others', async () => {
  const [gone, left, blacklisted] = [randomUUID(), randomUUID(), randomUUID()];
  const orphans = [
    { instanceId: gone, minerHotkey: 'm', cause: 'left' as const },
    { instanceId: left, minerHotkey: 'm', cause: 'left' as const },
    { instanceId: blacklisted, minerHotkey: 'n', cause: 'blacklisted' as const },
  ];
  const outcome: MetagraphSync = { kind: 'synced', members: 1, removed: 0, orphans };
  const looks: number[] = [];
  const activities: MetagraphActivities = {
    syncMetagraph: async ({ lookedAtMs }) => {
      looks.push(lookedAtMs);
      if (looks.length === 1) throw new Error('the database is away');
      return outcome;
    },
  };
  const taskQueue = 'metagraph-test';
  const worker = await Worker.create({
    connection: env.nativeConnection,
    taskQueue,
    workflowsPath: join(import.meta.dirname, '../../../workers/testing/metagraph-workflows.ts'),
    activities,
  });
  await worker.runUntil(async () => {
    const instances = await Promise.all(
      [left, blacklisted].map((instanceId) =>
        env.client.workflow.start<typeof removalRecorder>('removalRecorder', {
          taskQueue,
          workflowId: instanceWorkflowId(instanceId),
        }),
      ),
    );
    const answer = await env.client.workflow.execute<typeof metagraphSync>('metagraphSync', {
      taskQueue,
      workflowId: randomUUID(),
      args: [{ netuid: 64 }],
    });
    expect(answer).toEqual(outcome);
    expect(await Promise.all(instances.map((instance) => instance.query(removalsAsked)))).toEqual([
      [{ code: 'miner_deregistered', evidence: { cause: 'left' } }],
      [{ code: 'miner_deregistered', evidence: { cause: 'blacklisted' } }],
    ]);
    for (const instance of instances) await instance.terminate().catch(() => {}); // the skipped clock may have ended it
  });
  expect(looks).toHaveLength(2);
  expect(looks[1]).toBe(looks[0]); // a second attempt is the same look
});
