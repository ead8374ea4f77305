import { randomUUID } from 'node:crypto';
import { MockActivityEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { createHousekeepingActivities, type Swept } from './housekeeping-activities.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  database = await createTestDatabase('validator');
});
afterAll(() => database.drop());

const sweep = (environment = new MockActivityEnvironment()): Promise<Swept> =>
  environment.run(() => createHousekeepingActivities({ db: database.knex, batch: 2 }).sweepOldRows());
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const ago = (ms: number): Date => new Date(Date.now() - ms);
const dayAgo = (days: number): string =>
  ago(days * DAY)
    .toISOString()
    .slice(0, 10);

/** For each table: ages of rows that stay, ages of rows that go, and how a row of an age is made. */
const TABLES: [keyof Swept, number[], number[], (ageMs: number) => Record<string, unknown>][] = [
  [
    'events',
    [0, 7 * DAY - HOUR],
    [7 * DAY + 1, 8 * DAY, 90 * DAY, 91 * DAY, 92 * DAY],
    (ageMs) => ({ channel: 'events', payload: '{}', created_at: ago(ageMs) }),
  ],
  [
    'seen_signatures',
    [-HOUR, 0, HOUR / 2],
    [HOUR + 1000, DAY],
    (ageMs) => ({ signature: Buffer.from(randomUUID()), expires_at: ago(ageMs) }),
  ],
  ['signup_attempts', [0, DAY - HOUR], [DAY + 1000], (ageMs) => ({ ip: '1.1.1.1', attempted_at: ago(ageMs) })],
  [
    'quota_usage',
    [0, 40 * DAY],
    [41 * DAY, 400 * DAY],
    (ageMs) => ({ user_id: randomUUID(), chute_id: 'c', day: dayAgo(ageMs / DAY), used: 1 }),
  ],
];

test('what is old goes, in batches, and nothing else; a second run finds nothing', async () => {
  for (const [table, staying, going, row] of TABLES)
    await database.knex(table).insert([...staying, ...going].map((ageMs) => row(ageMs)));
  expect(await sweep()).toEqual(Object.fromEntries(TABLES.map(([table, , going]) => [table, going.length])));
  expect(await sweep()).toEqual(Object.fromEntries(TABLES.map(([table]) => [table, 0])));
  for (const [table, staying] of TABLES) expect(await database.knex(table)).toHaveLength(staying.length);
});

test('a cancel ends it between two batches', async () => {
  await database
    .knex('events')
    .insert(Array.from({ length: 5 }, () => ({ channel: 'events', payload: '{}', created_at: ago(9 * DAY) })));
  const environment = new MockActivityEnvironment();
  environment.once('heartbeat', () => environment.cancel());
  await expect(sweep(environment)).rejects.toThrow();
  expect(await database.knex('events').where('created_at', '<', ago(8 * DAY))).toHaveLength(3);
});
