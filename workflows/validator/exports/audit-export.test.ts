import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ApplicationFailure } from '@temporalio/common';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { createTimeSkippingEnvironment } from '../../../workers/testing/workflow-environment.ts';
import type { ExportActivities } from '../../../activities/validator/exports/export-activities.ts';
import { exportPath } from '../../domain/metering/export-csv.ts';
import { auditExport } from './audit-export.ts';

let env: TestWorkflowEnvironment;
beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  env = await createTimeSkippingEnvironment();
}, 60_000);
afterAll(() => env.teardown());

test('stores every missed hour, oldest first, through failures of each activity in turn', async () => {
  const missing = [3_600_000, 7_200_000];
  const stored: string[] = [];
  const failsOnce = new Set(['makePartitions', 'listUnexportedHours', 'exportHour']);
  const fail = (name: string): void => {
    if (failsOnce.delete(name)) throw ApplicationFailure.retryable('the database is away');
  };
  const activities: ExportActivities = {
    makePartitions: async () => {
      fail('makePartitions');
      return [];
    },
    listUnexportedHours: async () => {
      fail('listUnexportedHours');
      return missing.filter((endMs) => !stored.includes(exportPath('jobs', endMs)));
    },
    exportHour: async ({ kind, endMs }) => {
      fail('exportHour');
      stored.push(exportPath(kind, endMs));
      return { path: exportPath(kind, endMs), objectKey: 'k', sha256: 's', sizeBytes: 1, rowCount: 0 };
    },
  };
  const taskQueue = randomUUID();
  const worker = await Worker.create({
    connection: env.nativeConnection,
    taskQueue,
    activities,
    workflowsPath: join(import.meta.dirname, 'audit-export.ts'),
  });
  await worker.runUntil(env.client.workflow.execute(auditExport, { taskQueue, workflowId: randomUUID() }));
  expect(stored).toEqual(
    [
      '1970/01/01/01.csv',
      '1970/01/01/01-reports.csv',
      '1970/01/01/01-jobs.csv',
      '1970/01/01/02.csv',
      '1970/01/01/02-reports.csv',
      '1970/01/01/02-jobs.csv',
    ].map((name) => `invocations/${name}`),
  );
}, 60_000);
