import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { insertNode } from '../../../workers/testing/launch-fixture.ts';
import { createSweepActivities, type SweepActivities } from './sweep-activities.ts';

const EVERY_MS = 86_400_000;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
/** draws the same number every time */
let drawing: (share: number) => SweepActivities;

beforeAll(async () => {
  database = await createTestDatabase('validator');
  drawing = (share) => createSweepActivities({ db: database.knex, everyMs: EVERY_MS, random: () => share });
}, 60_000);
afterEach(async () => {
  for (const table of ['instance_nodes', 'nodes', 'miner_sweeps']) await database.knex(table).delete();
});
afterAll(() => database.drop());

const miner = (): string => randomBytes(8).toString('hex');
const reserve = (minerHotkey: string, sweepId = randomUUID()) => drawing(0).reserveIdleNodes({ minerHotkey, sweepId });
const uuidsOf = (nodes: readonly { uuid: string }[]): string[] => nodes.map(({ uuid }) => uuid).toSorted();
const nextAtMs = async (minerHotkey: string): Promise<number> => {
  const row = (await database.knex('miner_sweeps').where({ miner_hotkey: minerHotkey }).first()) as { next_at: Date };
  return row.next_at.getTime();
};

test('every idle GPU is reserved once: verified, failed and lost ones, not those of a registration under way', async () => {
  const hotkey = miner();
  const idle = await Promise.all(
    ['verified', 'failed', 'lost'].map((status) => insertNode(database.knex, hotkey, { status })),
  );
  await insertNode(database.knex, hotkey, { status: 'challenged' });
  const forgotten = await insertNode(database.knex, hotkey, {
    status: 'challenged',
    created_at: new Date(Date.now() - 4 * 3_600_000),
  });
  await insertNode(database.knex, miner());
  const sweepId = randomUUID();
  const expected = [...idle, forgotten].toSorted();
  expect(uuidsOf(await reserve(hotkey, sweepId))).toEqual(expected);
  expect(uuidsOf(await reserve(hotkey, sweepId))).toEqual(expected); // the same activity again
  expect(await reserve(hotkey)).toEqual([]); // another sweep
});

test('a reservation ends with its release, by its own sweep only, or by itself', async () => {
  const hotkey = miner();
  const uuid = await insertNode(database.knex, hotkey);
  const sweepId = randomUUID();
  await reserve(hotkey, sweepId);
  await drawing(0).releaseNodes({ sweepId: randomUUID(), uuids: [uuid] });
  expect(await reserve(hotkey)).toEqual([]);
  for (const _ of [1, 2]) await drawing(0).releaseNodes({ sweepId, uuids: [uuid] });
  expect(uuidsOf(await reserve(hotkey))).toEqual([uuid]);
  await database
    .knex('nodes')
    .where({ uuid })
    .update({ sweep_until: new Date(Date.now() - 1000) });
  expect(uuidsOf(await reserve(hotkey))).toEqual([uuid]);
});

test('a claim that holds the row is seen: the sweep waits for it and leaves its GPU out', async () => {
  const hotkey = miner();
  const [claimed, free] = [await insertNode(database.knex, hotkey), await insertNode(database.knex, hotkey)];
  const instanceId = randomUUID();
  const claim = await database.knex.transaction();
  await claim.raw('set local session_replication_role = replica'); // no instance row is needed here
  await claim('nodes').where({ uuid: claimed }).forUpdate().select('uuid');
  await claim('instance_nodes').insert({ node_uuid: claimed, instance_id: instanceId });
  const reserving = reserve(hotkey);
  await until(async () => {
    const { rows } = await database.knex.raw<{ rows: unknown[] }>(
      "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
    );
    return rows.length > 0;
  });
  await claim.commit();
  expect(uuidsOf(await reserving)).toEqual([free]);
});
async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setImmediate(resolve));
}

test('a miner is due when its moment has come; new miners get one within a period, gone ones are forgotten', async () => {
  const [due, waiting, gone] = [miner(), miner(), miner()];
  await insertNode(database.knex, due);
  await insertNode(database.knex, waiting, { verification_host: 'elsewhere' });
  await database.knex('miner_sweeps').insert([
    { miner_hotkey: due, next_at: new Date(Date.now() - 1) },
    { miner_hotkey: gone, next_at: new Date(Date.now() - 1) },
  ]);
  expect(await drawing(0).dueMiners()).toEqual([due]);
  expect(await database.knex('miner_sweeps').orderBy('next_at').pluck('miner_hotkey')).toEqual([due, waiting]);
  const inMs = (await nextAtMs(waiting)) - Date.now();
  expect(inMs).toBeLessThanOrEqual(EVERY_MS);
});

test('hotkeys that announce GPUs on the same host come together', async () => {
  const [due, beside, elsewhere] = [miner(), miner(), miner()];
  await insertNode(database.knex, due, { verification_host: 'Shared.example' });
  await insertNode(database.knex, beside, { verification_host: 'shared.example' });
  await insertNode(database.knex, elsewhere, { verification_host: 'other.example' });
  await database.knex('miner_sweeps').insert({ miner_hotkey: due, next_at: new Date(Date.now() - 1) });
  expect(await drawing(0.9).dueMiners()).toEqual([due, beside].toSorted());
});

test('the next moment lies between half a period and one and a half; planned twice for one sweep it stays', async () => {
  const hotkey = miner();
  await insertNode(database.knex, hotkey);
  await drawing(0).requestSweep({ minerHotkey: hotkey, withinMs: 0 });
  const sweepId = randomUUID();
  await drawing(0).planNextSweep({ minerHotkey: hotkey, sweepId });
  const first = await nextAtMs(hotkey);
  expect(Math.abs(first - Date.now() - EVERY_MS / 2)).toBeLessThan(60_000);
  await drawing(0.9).planNextSweep({ minerHotkey: hotkey, sweepId });
  expect(await nextAtMs(hotkey)).toBe(first);
  await drawing(0.999).planNextSweep({ minerHotkey: hotkey, sweepId: randomUUID() });
  expect(Math.abs((await nextAtMs(hotkey)) - Date.now() - EVERY_MS * 1.499)).toBeLessThan(60_000);
});

test('a request brings the moment nearer and never puts it off', async () => {
  const hotkey = miner();
  await insertNode(database.knex, hotkey);
  await drawing(0.5).requestSweep({ minerHotkey: hotkey, withinMs: 600_000 });
  const asked = await nextAtMs(hotkey);
  expect(Math.abs(asked - Date.now() - 300_000)).toBeLessThan(60_000);
  await drawing(0.9).requestSweep({ minerHotkey: hotkey, withinMs: 6_000_000 });
  expect(await nextAtMs(hotkey)).toBe(asked);
});
