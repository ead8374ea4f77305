import { createHash, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { BlobStore } from '../../clients/s3.ts';
import { HOUR_MS, type ExportKind } from '../../../workflows/domain/metering/export-csv.ts';
import type { InvocationRecord } from '../../../workflows/domain/metering/record.ts';
import { loadInvocations } from '../invocations/invocation-store.ts';
import { createExportActivities } from './export-activities.ts';
import type { StoredExport } from './export-store.ts';
import { ensurePartition } from './partition-store.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let blobs: BlobStore;
const id = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
const END = Date.UTC(2026, 10, 20, 9);

const recordOf = (over: Partial<InvocationRecord> = {}): InvocationRecord => ({
  invocationId: randomUUID(),
  parentInvocationId: id(1),
  userId: id(2),
  chuteId: id(3),
  chuteUserId: id(4),
  functionName: 'chat',
  imageId: id(5),
  imageUserId: id(6),
  instanceId: id(7),
  minerUid: 3,
  minerHotkey: '5Hot',
  startedAtMs: END - HOUR_MS + 1,
  completedAtMs: END - HOUR_MS + 1500,
  errorMessage: null,
  computeMultiplier: 0.5,
  metrics: { tt: 1.5, p: false, mc: 0 },
  isFree: true,
  amountMicroUsd: 0,
  creditUserId: null,
  quota: null,
  ...over,
});

beforeAll(async () => {
  database = await createTestDatabase('validator');
  blobs = new BlobStore({
    endpoint: process.env.CANOPY_TEST_S3_ENDPOINT ?? '',
    region: 'us-east-1',
    bucket: 'canopy',
    accessKey: 'test',
    secretKey: 'testsecret',
  });
});
afterAll(async () => {
  blobs.close();
  await database.drop();
});

const activities = (nowMs: number) => createExportActivities({ db: database.knex, blobs, now: () => nowMs });
const exportHour = (kind: ExportKind, endMs: number): Promise<StoredExport> =>
  new MockActivityEnvironment().run(() => activities(endMs + HOUR_MS).exportHour({ kind, endMs }));

test('an hour is stored once, byte for byte as auditors parse it, each attempt in exactly one file', async () => {
  await loadInvocations(
    database.knex,
    [
      recordOf({ invocationId: id(11), metrics: { it: 10, ot: 4, p: false, mc: null, tt: 1.5 } }),
      recordOf({
        invocationId: id(12),
        startedAtMs: END - HOUR_MS + 2,
        completedAtMs: END - 1,
        errorMessage: 'said "no",\nthen left',
      }),
      recordOf({ invocationId: id(13), startedAtMs: END - 2000, completedAtMs: END }), // ends in the next hour
      recordOf({ invocationId: id(14), startedAtMs: END - HOUR_MS - 5000, completedAtMs: END - HOUR_MS }), // began in the one before
    ],
    'golden',
  );
  const first = await exportHour('invocations', END);
  const bytes = (await blobs.get(first.objectKey))?.toString();
  expect(bytes).toBe(
    [
      'parent_invocation_id,invocation_id,chute_id,chute_user_id,function_name,image_id,image_user_id,instance_id,miner_uid,miner_hotkey,started_at,completed_at,error_message,compute_multiplier,bounty,metrics',
      `${id(1)},${id(14)},${id(3)},${id(4)},chat,${id(5)},${id(6)},${id(7)},3,5Hot,2026-11-20 07:59:55.000000,2026-11-20 08:00:00.000000,,0.5,0,"{'p': False, 'mc': 0, 'tt': 1.5}"`,
      `${id(1)},${id(11)},${id(3)},${id(4)},chat,${id(5)},${id(6)},${id(7)},3,5Hot,2026-11-20 08:00:00.001000,2026-11-20 08:00:01.500000,,0.5,0,"{'p': False, 'it': 10, 'mc': None, 'ot': 4, 'tt': 1.5}"`,
      `${id(1)},${id(12)},${id(3)},${id(4)},chat,${id(5)},${id(6)},${id(7)},3,5Hot,2026-11-20 08:00:00.002000,2026-11-20 08:59:59.999000,"said ""no"",\nthen left",0.5,0,"{'p': False, 'mc': 0, 'tt': 1.5}"`,
      '',
    ].join('\r\n'),
  );
  expect(first).toMatchObject({
    path: 'invocations/2026/11/20/09.csv',
    rowCount: 3,
    sha256: createHash('sha256')
      .update(bytes ?? '')
      .digest('hex'),
  });
  await loadInvocations(database.knex, [recordOf({ startedAtMs: END - 1000, completedAtMs: END - 500 })], 'late');
  expect(await exportHour('invocations', END)).toEqual(first);
  expect((await exportHour('invocations', END + HOUR_MS)).rowCount).toBe(1);
  const jobs = await exportHour('jobs', END);
  expect((await blobs.get(jobs.objectKey))?.toString()).toMatch(/^job_id,chute_id,.*,miner_terminated\r\n$/);
});

test('hours an outage skipped are listed until all their files are there, the running one never', async () => {
  const listed = (): Promise<number[]> => activities(END + 3 * HOUR_MS + 60_000).listUnexportedHours();
  const ends = await listed();
  expect(ends).toContain(END + 2 * HOUR_MS);
  expect(ends).not.toContain(END + 3 * HOUR_MS); // closed a minute ago: its last records may still be on the way
  expect(ends).not.toContain(END);
  for (const endMs of ends)
    for (const kind of ['invocations', 'reports', 'jobs'] as const) await exportHour(kind, endMs);
  expect(await listed()).toEqual([]);
});

test('a partition takes over rows that came before it, twice changes nothing', async () => {
  const day = Date.UTC(2026, 10, 20);
  const count = async (table: string): Promise<number> =>
    Number((await database.knex(table).count('* as count'))[0]?.count);
  const before = await count('invocations');
  expect([await ensurePartition(database.knex, day), await ensurePartition(database.knex, day)]).toEqual([true, false]);
  expect([await count('invocations_default'), await count('invocations_20261120'), await count('invocations')]).toEqual(
    [0, before, before],
  );
  await loadInvocations(database.knex, [recordOf()], 'after');
  expect(await count('invocations_20261120')).toBe(before + 1);
  expect(await activities(day).makePartitions()).toHaveLength(7);
  expect(await activities(day).makePartitions()).toEqual([]);
});
