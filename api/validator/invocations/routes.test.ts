import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createLogger } from '../../../activities/clients/log.ts';
import { BlobStore } from '../../../activities/clients/s3.ts';
import { createExportActivities } from '../../../activities/validator/exports/export-activities.ts';
import type { StoredExport } from '../../../activities/validator/exports/export-store.ts';
import { loadInvocations } from '../../../activities/validator/invocations/invocation-store.ts';
import { MockActivityEnvironment } from '@temporalio/testing';
import { exportPath, HOUR_MS } from '../../../workflows/domain/metering/export-csv.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { createApp } from '../../http/app.ts';
import { seeder } from '../../gateway/testing/seed.ts';
import { invocationRoutes } from './routes.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let blobs: BlobStore;
let server: Server;
let url: string;

beforeAll(async () => {
  database = await createTestDatabase('validator');
  blobs = new BlobStore({
    endpoint: process.env.CANOPY_TEST_S3_ENDPOINT ?? '',
    region: 'us-east-1',
    bucket: 'canopy',
    accessKey: 'test',
    secretKey: 'testsecret',
  });
  server = createApp({
    program: 'test',
    log: createLogger('test', 'fatal'),
    routers: [invocationRoutes({ db: database.knex, blobs })],
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.close();
  blobs.close();
  await database.drop();
});

async function addCall(completedAtMs: number): Promise<string> {
  const seed = seeder(database.knex);
  const user = await seed.user();
  const chute = await seed.chute(user.userId);
  await loadInvocations(
    database.knex,
    [
      {
        invocationId: randomUUID(),
        parentInvocationId: randomUUID(),
        userId: user.userId,
        chuteId: chute.chuteId,
        chuteUserId: user.userId,
        functionName: 'chat',
        imageId: randomUUID(),
        imageUserId: user.userId,
        instanceId: randomUUID(),
        minerUid: 3,
        minerHotkey: 'hk',
        startedAtMs: completedAtMs - 10,
        completedAtMs,
        errorMessage: null,
        computeMultiplier: 0.5,
        metrics: { it: 3, ot: 4, tps: 2 },
        isFree: false,
        amountMicroUsd: 5,
        creditUserId: null,
        quota: null,
      },
    ],
    randomUUID(),
  );
  return chute.chuteId;
}
const hourOf = (endMs: number): string =>
  `${url}/${exportPath('invocations', endMs).replace('invocations/', 'invocations/exports/')}`;

test('the running hour is shown on demand, not stored; a closed one is served as stored', async () => {
  const nowMs = Date.now();
  const chuteId = await addCall(nowMs);
  const endMs = (Math.floor(nowMs / HOUR_MS) + 1) * HOUR_MS;
  expect((await fetch(hourOf(endMs))).status).toBe(404);
  const partial = await fetch(`${hourOf(endMs)}?partial=true`);
  expect([partial.status, partial.headers.get('x-canopy-partial')]).toEqual([200, 'true']);
  expect(await partial.text()).toContain(chuteId);
  expect(await database.knex('exports')).toEqual([]);
  const stored: StoredExport = await new MockActivityEnvironment().run(() =>
    createExportActivities({ db: database.knex, blobs }).exportHour({ kind: 'invocations', endMs }),
  );
  await addCall(nowMs);
  const served = await fetch(hourOf(endMs));
  expect(served.headers.get('x-canopy-partial')).toBeNull();
  expect(served.headers.get('content-type')).toMatch(/^text\/csv/);
  expect(Buffer.from(await served.arrayBuffer()).equals((await blobs.get(stored.objectKey)) ?? Buffer.alloc(0))).toBe(
    true,
  );
  const counted = await database.knex('chutes').where({ chute_id: chuteId }).pluck('invocation_count');
  expect(counted).toEqual([1]);
});

test.each([
  ['2026/13/1/5.csv', 400],
  ['2026/2/30/5.csv', 400],
  ['2026/1/1/24.csv', 400],
  ['2026/1/1/x.csv', 400],
  ['2026/1/1/5-secrets.csv', 400],
  ['2024/12/13/5.csv', 404],
  ['2999/1/1/0.csv', 404],
  ['2026/1/1/5-jobs.csv', 404],
])('%s is %i', async (name, status) => {
  expect((await fetch(`${url}/invocations/exports/${name}`)).status).toBe(status);
});

test('recent, usage and statistics tell of served calls', async () => {
  const chuteId = await addCall(Date.now());
  const recent = await (await fetch(`${url}/invocations/exports/recent?hotkey=hk&limit=1000`)).text();
  expect(recent.split('\r\n')[0]).not.toContain('parent_invocation_id');
  expect(recent).toContain(chuteId);
  expect(await (await fetch(`${url}/invocations/usage`)).json()).toContainEqual({
    chute_id: chuteId,
    date: expect.any(String),
    usd_amount: 0.000005,
    invocation_count: 1,
  });
  expect(await (await fetch(`${url}/invocations/stats/llm`)).json()).toContainEqual(
    expect.objectContaining({
      chute_id: chuteId,
      total_requests: 1,
      total_input_tokens: 3,
      total_output_tokens: 4,
      average_tps: 2,
    }),
  );
  expect((await fetch(`${url}/invocations/exports/recent?limit=20000`)).status).toBe(422);
});
