import { randomUUID } from 'node:crypto';
import { MockActivityEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { insertChute, insertNode, insertPermission } from '../../../workers/testing/launch-fixture.ts';
import { SecretBox } from '../../clients/secret-box.ts';
import { createHousekeepingActivities, type Swept } from './housekeeping-activities.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  database = await createTestDatabase('validator');
});
afterAll(() => database.drop());

const sweep = (environment = new MockActivityEnvironment()): Promise<Swept> =>
  environment.run(() => housekeeping(new Map()).sweepOldRows());
const housekeeping = (objects: Map<string, Date>) =>
  createHousekeepingActivities({
    db: database.knex,
    batch: 2,
    proofRetentionMs: 7 * DAY,
    blobs: {
      async *list(prefix) {
        const all = [...objects].map(([key, modifiedAt]) => ({ key, modifiedAt }));
        const found = all.filter(({ key }) => key.startsWith(prefix));
        while (found.length > 0) yield found.splice(0, 2);
      },
      delete: async (key) => void objects.delete(key),
    },
  });
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

test('openings go after a day, proof files when they are old and nobody’s own; a second run finds nothing', async () => {
  const { knex } = database;
  const summary = (key: string) =>
    JSON.stringify({
      trustLevel: 'povw',
      gpus: [
        { gpuUuid: 'a', record: { key } },
        { gpuUuid: 'b', record: null },
      ],
    });
  await insertNode(knex, 'miner', { proof_summary: summary('proofs/records/of-a-node') });
  await insertNode(knex, 'miner'); // never proven
  const userId = randomUUID();
  await knex('users').insert({
    user_id: userId,
    username: 'owner',
    hotkey: 'h',
    coldkey: 'c',
    payment_address: 'p',
    payment_secret_sealed: Buffer.alloc(1),
    fingerprint_hash: 'f',
  });
  const box = new SecretBox('33'.repeat(32));
  const { configId, instanceId, chuteId } = await insertPermission(knex, box, await insertChute(knex, userId), 'miner');
  await knex('instances').insert({
    instance_id: instanceId,
    config_id: configId,
    chute_id: chuteId,
    version: randomUUID(),
    miner_hotkey: 'miner',
    miner_coldkey: 'miner',
    miner_uid: 0,
    host: 'h',
    port: 1,
    port_mappings: '[]',
    transport: 't',
    gpu_count: 1,
    gpu_model_name: 'm',
    hourly_rate_micro_usd: 1,
    compute_multiplier: 1,
    chutes_version: 'v',
    proof_summary: summary('proofs/records/of-an-instance'),
  });
  const objects = new Map([
    ['proofs/config/fresh', ago(DAY - HOUR)],
    ['proofs/config/old', ago(DAY + HOUR)],
    ['proofs/old', ago(400 * DAY)],
    ['proofs/records/of-a-node', ago(400 * DAY)],
    ['proofs/records/of-an-instance', ago(400 * DAY)],
    ['proofs/records/of-nobody', ago(7 * DAY + HOUR)],
    ['proofs/records/of-nobody-yet', ago(7 * DAY - HOUR)],
    ['images/proofs/old', ago(400 * DAY)],
  ]);
  const sweepProofs = () => new MockActivityEnvironment().run(() => housekeeping(objects).sweepOldProofs());
  expect(await sweepProofs()).toEqual({ deleted: 3 });
  expect([...objects.keys()]).toEqual([
    'proofs/config/fresh',
    'proofs/records/of-a-node',
    'proofs/records/of-an-instance',
    'proofs/records/of-nobody-yet',
    'images/proofs/old',
  ]);
  expect(await sweepProofs()).toEqual({ deleted: 0 });
});
