import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { createMetagraphActivities } from './metagraph-activities.ts';

const A = '5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY';
const B = '5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty';
const member = (hotkey: string, uid: number) => ({
  hotkey,
  coldkey: hotkey,
  uid,
  stake_rao: '21000000000000000000',
  host: null,
  port: null,
});
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let dir: string;
beforeAll(async () => {
  database = await createTestDatabase('validator');
  dir = await mkdtemp(join(tmpdir(), 'canopy-metagraph-'));
});
afterAll(async () => {
  await database.drop();
  await rm(dir, { recursive: true, force: true });
});
const sync = () =>
  createMetagraphActivities({ db: database.knex, file: join(dir, 'metagraph.json') }).syncMetagraph({ netuid: 64 });
const snapshot = (content: unknown) =>
  writeFile(join(dir, 'metagraph.json'), typeof content === 'string' ? content : JSON.stringify(content));
const hotkeys = async () =>
  (await database.knex('metagraph_nodes').where({ netuid: 64 }).orderBy('uid')).map((row) => row.hotkey);

test('the table says what a readable snapshot says, twice the same, and a blacklisting stays', async () => {
  await snapshot([member(A, 0), member(B, 1)]);
  expect(await sync()).toEqual({ kind: 'synced', members: 2, removed: 0 });
  await database.knex('metagraph_nodes').where({ hotkey: A }).update({ blacklist_reason: 'lied' });
  await database.knex('metagraph_nodes').insert({ netuid: 120, ...member(A, 5), synced_at: new Date() });
  expect(await sync()).toEqual({ kind: 'synced', members: 2, removed: 0 });
  await snapshot([member(A, 7)]);
  expect(await sync()).toEqual({ kind: 'synced', members: 1, removed: 1 });
  expect(await database.knex('metagraph_nodes').where({ netuid: 64 })).toEqual([
    expect.objectContaining({ hotkey: A, uid: 7, stake_rao: '21000000000000000000', blacklist_reason: 'lied' }),
  ]);
  expect(await database.knex('metagraph_nodes').where({ netuid: 120 })).toHaveLength(1); // another subnet's rows are its own
});

test.each<[string, unknown]>([
  ['empty', []],
  ['not JSON', '[{'],
  ['malformed', [{ ...member(B, 1), stake_rao: '-1' }]],
  ['naming a hotkey twice', [member(A, 1), member(A, 2)]],
])('a snapshot that is %s removes nobody', async (_, content) => {
  await snapshot([member(A, 0), member(B, 1)]);
  await sync();
  await snapshot(content);
  expect(await sync()).toMatchObject({ kind: 'kept' });
  expect(await hotkeys()).toEqual([A, B]);
});

test('a missing file removes nobody', async () => {
  await rm(join(dir, 'metagraph.json'), { force: true });
  expect(await sync()).toEqual({ kind: 'kept', reason: 'snapshot is not readable: ENOENT' });
  expect(await hotkeys()).toEqual([A, B]);
});
