import { appendFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import type { InvocationRecord } from '../../../workflows/domain/metering/record.ts';
import { createLogger } from '../../clients/log.ts';
import { flushSpool } from './flush-spool.ts';
import { loadInvocations } from './invocation-store.ts';
import { Spool } from './spool.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let dir: string;
let spool: Spool;
let userId: string;
const log = createLogger('test', 'fatal');

beforeAll(async () => {
  database = await createTestDatabase('validator');
});
afterAll(() => database.drop());
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'canopy-spool-'));
  spool = new Spool({ dir, log });
  userId = randomUUID();
  await database.knex('users').insert({
    user_id: userId,
    username: userId,
    hotkey: userId,
    coldkey: 'c',
    payment_address: userId,
    payment_secret_sealed: Buffer.from('x'),
    fingerprint_hash: userId,
  });
});
afterEach(async () => {
  await spool.close();
  await rm(dir, { recursive: true });
});

const record = (over: Partial<InvocationRecord> = {}): InvocationRecord => ({
  invocationId: randomUUID(),
  parentInvocationId: randomUUID(),
  userId,
  chuteId: randomUUID(),
  chuteUserId: userId,
  functionName: 'chat',
  imageId: randomUUID(),
  imageUserId: userId,
  instanceId: randomUUID(),
  minerUid: 1,
  minerHotkey: 'hk',
  startedAtMs: 1_790_000_000_123,
  completedAtMs: 1_790_000_001_000,
  errorMessage: null,
  computeMultiplier: 1,
  metrics: { it: 1 },
  isFree: false,
  amountMicroUsd: 7,
  creditUserId: null,
  quota: { counter: '__default__', day: '2026-09-21', counts: 1 },
  ...over,
});
const flush = () => flushSpool({ spool, db: database.knex, log, onLoaded: () => {} });
const stored = async () => {
  const [usage] = await database.knex('quota_usage').where({ user_id: userId });
  const [ledger] = await database.knex('ledger').where({ user_id: userId }).sum({ sum: 'amount_micro_usd' });
  const [rows] = await database.knex('invocations').where({ user_id: userId }).count({ count: '*' });
  return { used: Number(usage?.used ?? 0), ledger: Number(ledger?.sum ?? 0), rows: Number(rows?.count) };
};

test('records reach the table with their quota and their price, and the segment goes', async () => {
  for (let n = 0; n < 3; n++) spool.append(record({ errorMessage: `tab\there \\ "quote"\nline ${n}` }));
  expect(await flush()).toBe(3);
  expect(await stored()).toEqual({ used: 3, ledger: -21, rows: 3 });
  expect(await database.knex('invocations').where({ user_id: userId }).pluck('error_message')).toContain(
    'tab\there \\ "quote"\nline 1',
  );
  expect((await readdir(dir)).filter((name) => name.endsWith('.spool'))).toEqual([]);
});

test('the same records again neither count nor cost', async () => {
  const records = [record(), record()];
  expect(await loadInvocations(database.knex, records, 'batch')).toEqual({ loaded: 2 });
  expect(await loadInvocations(database.knex, records, 'batch')).toEqual({ loaded: 0 });
  expect(await loadInvocations(database.knex, [...records, records[0] as InvocationRecord, record()], 'other')).toEqual(
    { loaded: 1 },
  );
  expect(await stored()).toEqual({ used: 3, ledger: -21, rows: 3 });
});

test('two flushers at once load each record once', async () => {
  const records = Array.from({ length: 50 }, () => record());
  await Promise.all([loadInvocations(database.knex, records, 'x'), loadInvocations(database.knex, records, 'x')]);
  expect(await stored()).toEqual({ used: 50, ledger: -350, rows: 50 });
});

test('what a dead process left is read by the next; a torn line costs only itself', async () => {
  spool.append(record());
  const [segment] = spool.seal();
  await appendFile(segment ?? '', 'deadbeef {"invocationId":"tor');
  await spool.close();
  spool = new Spool({ dir, log });
  spool.append(record());
  expect(await flush()).toBe(2);
});

test('a record Postgres refuses is set aside and does not hold up the others', async () => {
  for (let n = 0; n < 5; n++) spool.append(record(n === 2 ? { chuteId: 'not-a-uuid' } : {}));
  expect(await flush()).toBe(4);
  expect(await stored()).toEqual({ used: 4, ledger: -28, rows: 4 });
  expect((await readdir(dir)).filter((name) => name.endsWith('.rejected'))).toHaveLength(1);
});

test('the owner of a private chute is paid what a caller paid', async () => {
  const caller = record().userId;
  const owner = randomUUID();
  await database.knex('users').insert({
    user_id: owner,
    username: owner,
    hotkey: owner,
    coldkey: 'c',
    payment_address: owner,
    payment_secret_sealed: Buffer.from('x'),
    fingerprint_hash: owner,
  });
  spool.append(record({ creditUserId: owner, amountMicroUsd: 40 }));
  await flush();
  const sums = await database
    .knex('ledger')
    .whereIn('user_id', [caller, owner])
    .orderBy('reason')
    .pluck('amount_micro_usd');
  expect(sums).toEqual([40, -40]);
});

test('a folder belongs to one living process; a dead one, or an earlier life of this process id, gives it up', async () => {
  const lock = join(dir, 'lock');
  await writeFile(lock, String(process.ppid));
  expect(() => new Spool({ dir, log })).toThrow(`belongs to process ${process.ppid}`);
  await writeFile(lock, '999999999');
  await new Spool({ dir, log }).close();
  await writeFile(lock, String(process.pid));
  await new Spool({ dir, log }).close();
});
