import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { SUSPECT_TIMES, type WindowMember } from '../../../workflows/domain/nodes/sweep-windows.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { insertNode } from '../../../workers/testing/launch-fixture.ts';
import { apartPairs, createSweepActivities, type SweepActivities } from './sweep-activities.ts';

const EVERY_MS = 86_400_000;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
/** draws the same number every time */
let drawing: (share: number) => SweepActivities;

beforeAll(async () => {
  database = await createTestDatabase('validator');
  drawing = (share) => createSweepActivities({ db: database.knex, everyMs: EVERY_MS, random: () => share });
}, 60_000);
afterEach(async () => {
  for (const table of ['events', 'instance_nodes', 'nodes', 'miner_sweeps', 'sweep_pairs'])
    await database.knex(table).delete();
});
afterAll(() => database.drop());

const miner = (): string => randomBytes(8).toString('hex');
const reserve = (minerHotkey: string, sweepId = randomUUID(), share = 0) =>
  drawing(share).reserveIdleNodes({ minerHotkeys: [minerHotkey], sweepId });
const dueNow = async (share = 0): Promise<string[][]> =>
  (await drawing(share).dueSweepsOf()).map(({ minerHotkeys }) => minerHotkeys);
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
  await insertNode(database.knex, waiting, { verification_host: 'elsewhere', gpu_identifier: 'a6000' });
  await database.knex('miner_sweeps').insert([
    { miner_hotkey: due, next_at: new Date(Date.now() - 1) },
    { miner_hotkey: gone, next_at: new Date(Date.now() - 1) },
  ]);
  expect(await dueNow()).toEqual([[due]]);
  expect(await database.knex('miner_sweeps').orderBy('next_at').pluck('miner_hotkey')).toEqual([due, waiting]);
  const inMs = (await nextAtMs(waiting)) - Date.now();
  expect(inMs).toBeLessThanOrEqual(EVERY_MS);
});

test('a window takes along who is beside and strangers of the same type, as far as they have verified GPUs', async () => {
  const [due, beside, pretender, stranger, other] = [miner(), miner(), miner(), miner(), miner()];
  await insertNode(database.knex, due, { verification_host: 'Shared.example' });
  await insertNode(database.knex, beside, { verification_host: 'shared.example', gpu_identifier: 'a6000' });
  await insertNode(database.knex, pretender, { verification_host: 'shared.example', status: 'failed' });
  await insertNode(database.knex, stranger, { verification_host: 'far.example' });
  await insertNode(database.knex, other, { verification_host: 'other.example', gpu_identifier: 'a6000' });
  const later = new Date(Date.now() + 3_600_000);
  await database
    .knex('miner_sweeps')
    .insert([
      { miner_hotkey: due, next_at: new Date(Date.now() - 1) },
      ...[beside, pretender, stranger, other].map((hotkey) => ({ miner_hotkey: hotkey, next_at: later })),
    ]);
  expect(await dueNow()).toEqual([[due, beside, stranger]]);
  await database
    .knex('miner_sweeps')
    .where({ miner_hotkey: pretender })
    .update({ next_at: new Date(0) });
  expect(await dueNow()).toEqual([[pretender], [due, beside, stranger]]); // who failed draws nobody in
  for (const swept of [beside, stranger]) await reserve(swept, randomUUID(), 0.5);
  expect(await dueNow()).toEqual([[pretender], [due]]);
});

test('only GPUs that nothing runs on count for the room of a window', async () => {
  const [due, serving, idling] = [miner(), miner(), miner()];
  await insertNode(database.knex, due);
  for (const [hotkey, isBusy] of [
    [serving, true],
    [idling, false],
  ] as const) {
    const uuids: string[] = [];
    for (let gpu = 0; gpu < 100; gpu++)
      uuids.push(await insertNode(database.knex, hotkey, { verification_host: `${hotkey}.example` }));
    if (isBusy)
      await database.knex.transaction(async (trx) => {
        await trx.raw('set local session_replication_role = replica'); // no instance row is needed here
        await trx('instance_nodes').insert(uuids.map((uuid) => ({ node_uuid: uuid, instance_id: randomUUID() })));
      });
  }
  await drawing(0).dueSweepsOf();
  await drawing(0).requestSweep({ minerHotkey: due, withinMs: 0 });
  const windows = await dueNow();
  expect(windows).toHaveLength(1);
  expect(new Set(windows[0])).toEqual(new Set([due, serving, idling]));
});

const member = (minerHotkey: string, held: boolean, gpus = 8) => ({ minerHotkey, held, gpus });
const record = (members: WindowMember[], sweepId = randomUUID()) => drawing(0).recordCompany({ sweepId, members });
const pairs = async (): Promise<[string, string, number][]> =>
  (await apartPairs(database.knex, 1)).map(({ broke, beside, times }) => [broke, beside, times]);

test('pairs of which one broke beside the other stay until both hold; one sweep counts once', async () => {
  const sweepId = randomUUID();
  for (const _ of [1, 2])
    await record([member('cheat', false), member('card', true), member('other', true), member('down', false)], sweepId);
  const [all, ends] = [await pairs(), { card: 'card', other: 'other' }];
  expect(all).toEqual([
    ['cheat', ends.card, 1],
    ['cheat', ends.other, 1],
    ['down', ends.card, 1],
    ['down', ends.other, 1],
  ]);
  await record([member('cheat', true), member('other', true), member('card', false)]);
  expect(await pairs()).toEqual([
    ['card', 'cheat', 1],
    ['card', 'other', 1],
    ['cheat', 'card', 1],
    ['down', 'card', 1],
    ['down', 'other', 1],
  ]);
});

test('fewer GPUs that hold than those that broke exonerate nobody: the missing one may be deleted for a while', async () => {
  await record([member('cheat', false, 8), member('card', true)]);
  await record([member('cheat', true, 7), member('card', true)]);
  await record([member('cheat', true), member('card', true, 7)]);
  expect(await pairs()).toEqual([['cheat', 'card', 1]]);
  await record([member('cheat', true, 8), member('card', true)]);
  expect(await pairs()).toEqual([]);
});

test('a pair is told when chance explains it no more', async () => {
  const broken = [member('cheat', false), member('card', true)];
  expect(await record(broken)).toEqual([]);
  expect(await record(broken)).toEqual([]);
  expect(await record(broken)).toMatchObject([{ broke: 'cheat', beside: 'card', times: SUSPECT_TIMES }]);
  expect(await record([member('someone', false), member('else', true)])).toEqual([]);
});

test('whoever is due meets those that it is apart from, either way, most often first', async () => {
  const [due, often, once, stranger] = [miner(), miner(), miner(), miner()];
  for (const hotkey of [due, often, once, stranger])
    await insertNode(database.knex, hotkey, { verification_host: `${hotkey}.example` });
  await drawing(0.5).dueSweepsOf();
  await drawing(0).requestSweep({ minerHotkey: due, withinMs: 0 });
  await record([member(due, false), member(often, true), member(once, true)]);
  await record([member(often, false), member(due, true)]);
  const windows = (await dueNow()).filter(([first]) => first === due);
  expect(windows).toEqual([[due, often, once]]);
});

test('a conclusion that comes after another sweep has taken the GPU changes nothing', async () => {
  const hotkey = miner();
  const taskId = randomUUID();
  const uuid = await insertNode(database.knex, hotkey, { task_id: `${hotkey}::${taskId}` });
  const sweepId = randomUUID();
  await reserve(hotkey, sweepId);
  await database
    .knex('nodes')
    .where({ uuid })
    .update({ sweep_until: new Date(Date.now() - 1000) });
  await reserve(hotkey);
  const lost = { kind: 'silent' as const, reason: 'no answer' };
  await drawing(0).concludeNodes({ sweepId, minerHotkey: hotkey, nodes: [{ uuid, taskId, outcome: lost }] });
  expect(await database.knex('nodes').where({ uuid }).first()).toMatchObject({ status: 'verified' });
});

test('the next moment is drawn when a sweep begins, without memory and within three periods; for one sweep once', async () => {
  const hotkey = miner();
  await insertNode(database.knex, hotkey);
  await drawing(0).requestSweep({ minerHotkey: hotkey, withinMs: 0 });
  const sweepId = randomUUID();
  await reserve(hotkey, sweepId, 0.5);
  const first = await nextAtMs(hotkey);
  expect(Math.abs(first - Date.now() - EVERY_MS * Math.LN2)).toBeLessThan(60_000);
  await reserve(hotkey, sweepId, 0.9);
  expect(await nextAtMs(hotkey)).toBe(first);
  await reserve(hotkey, randomUUID(), 0.9999);
  expect(Math.abs((await nextAtMs(hotkey)) - Date.now() - EVERY_MS * 3)).toBeLessThan(60_000);
});

test('what is asked for while a sweep runs comes after it', async () => {
  const hotkey = miner();
  await insertNode(database.knex, hotkey);
  await drawing(0).requestSweep({ minerHotkey: hotkey, withinMs: 0 });
  const sweepId = randomUUID();
  const nodes = await reserve(hotkey, sweepId, 0.5);
  await drawing(0.5).requestSweep({ minerHotkey: hotkey, withinMs: 600_000 });
  await drawing(0).concludeNodes({
    sweepId,
    minerHotkey: hotkey,
    nodes: nodes.map(({ uuid, taskId }) => ({ uuid, taskId, outcome: { kind: 'unclear', reason: 'x' } })),
  });
  expect((await nextAtMs(hotkey)) - Date.now()).toBeLessThan(600_000);
});

test('outcome and release are one: rows of the registration that was proven, twice with one result', async () => {
  const hotkey = miner();
  const task = randomUUID();
  const uuids = await Promise.all(
    ['verified', 'failed', 'verified', 'verified'].map((status) =>
      insertNode(database.knex, hotkey, { status, task_id: `${hotkey}::${task}` }),
    ),
  );
  const [right = '', wrong = '', gone = '', again = ''] = uuids;
  const sweepId = randomUUID();
  const nodes = await reserve(hotkey, sweepId);
  expect(nodes.map(({ taskId }) => taskId)).toEqual(uuids.map(() => task));
  await database
    .knex('nodes')
    .where({ uuid: again })
    .update({ task_id: `${hotkey}::${randomUUID()}` });
  const summary = { trustLevel: 'simulated' as const, gpus: [], fillMs: 1, walkMs: 1 };
  const failed = { kind: 'failed' as const, reason: 'walk_entry_differs', atMs: 1, summary: null };
  const conclude = () =>
    drawing(0).concludeNodes({
      sweepId,
      minerHotkey: hotkey,
      nodes: [
        { uuid: wrong, taskId: task, outcome: failed },
        { uuid: right, taskId: task, outcome: { kind: 'verified', atMs: 1, summary } },
        { uuid: gone, taskId: task, outcome: { kind: 'silent', reason: 'commit: no answer' } },
        { uuid: again, taskId: task, outcome: failed },
      ],
    });
  const state = async () =>
    Object.fromEntries(
      (await database.knex('nodes').select('uuid', 'status', 'sweep_id')).map(
        ({ uuid, status, sweep_id: held }: { uuid: string; status: string; sweep_id: string | null }) => [
          uuid,
          `${status} ${held ?? 'free'}`,
        ],
      ),
    );
  const expected = {
    [right]: 'verified free',
    [wrong]: 'failed free',
    [gone]: 'lost free',
    [again]: 'verified free', // registered anew meanwhile: what was proven is another registration's
  };
  for (const _ of [1, 2]) {
    await conclude();
    expect(await state()).toEqual(expected);
  }
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
