import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { insertUser } from '../../../api/validator/testing/test-api.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import {
  insertChute,
  insertNode,
  insertPermission,
  TEST_CERTIFICATE,
} from '../../../workers/testing/launch-fixture.ts';
import { SecretBox } from '../../clients/secret-box.ts';
import { createInstanceActivities } from '../instances/instance-activities.ts';
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
let now = Date.now();
/** One look: later than the one before unless it says when. */
const sync = (lookedAtMs = (now += 30_000)) =>
  createMetagraphActivities({ db: database.knex, file: join(dir, 'metagraph.json') }).syncMetagraph({
    netuid: 64,
    lookedAtMs,
  });
const snapshot = (content: unknown) =>
  writeFile(join(dir, 'metagraph.json'), typeof content === 'string' ? content : JSON.stringify(content));
const hotkeys = async () =>
  (await database.knex('metagraph_nodes').where({ netuid: 64 }).orderBy('uid')).map((row) => row.hotkey);

test('the table says what a readable snapshot says, twice the same, and a blacklisting stays', async () => {
  await snapshot([member(A, 0), member(B, 1)]);
  expect(await sync()).toEqual({ kind: 'synced', members: 2, removed: 0, orphans: [] });
  await database.knex('metagraph_nodes').where({ hotkey: A }).update({ blacklist_reason: 'lied' });
  await database.knex('metagraph_nodes').insert({ netuid: 120, ...member(A, 5), synced_at: new Date() });
  expect(await sync()).toEqual({ kind: 'synced', members: 2, removed: 0, orphans: [] });
  await snapshot([member(A, 7)]);
  expect(await sync()).toEqual({ kind: 'synced', members: 1, removed: 1, orphans: [] });
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

describe('an instance is an orphan', () => {
  const box = new SecretBox('33'.repeat(32));
  let instanceId: string;
  const orphan = (cause: string) => [{ instanceId, minerHotkey: B, cause }];
  beforeEach(async () => {
    await database.knex('instances').delete();
    await database.knex('metagraph_nodes').delete();
    await snapshot([member(A, 0), member(B, 1)]);
    await sync();
    const { userId } = await insertUser(database.knex);
    const chuteId = await insertChute(database.knex, userId);
    const made = await insertPermission(database.knex, box, chuteId, B);
    const gpu = await insertNode(database.knex, B);
    const activities = createInstanceActivities({
      db: database.knex,
      box,
      config: { CANOPY_NETUID: 64, CANOPY_PROOF: 'simulated' },
    });
    const claimed = await activities.claimLaunch({
      ...made,
      claim: {
        gpus: [{ uuid: gpu, name: 'NVIDIA H100', memory: 1, clock_rate: 1 }],
        host: '127.0.0.1',
        portMappings: [{ proto: 'tcp', internal_port: 8000, external_port: 30_000 }],
        transport: 'canopy/1',
        tlsCertPem: TEST_CERTIFICATE,
        transportPublicKey: '11'.repeat(32),
        receivedAtMs: Date.now(),
      },
    });
    expect(claimed.kind).toBe('claimed');
    ({ instanceId } = made);
  });

  test('when its miner was missing in two looks in a row, and then until its row is gone', async () => {
    expect(await sync()).toMatchObject({ orphans: [] });
    await snapshot([member(A, 0)]);
    expect(await sync()).toMatchObject({ removed: 1, orphans: [] });
    for (let look = 0; look < 2; look++) expect(await sync()).toMatchObject({ removed: 0, orphans: orphan('left') });
    await database.knex('instances').delete();
    expect(await sync()).toMatchObject({ orphans: [] });
  });

  test('not when its miner came back in between, nor by a second attempt of one look', async () => {
    await snapshot([member(A, 0)]);
    const lookedAtMs = (now += 30_000);
    for (let attempt = 0; attempt < 2; attempt++) expect(await sync(lookedAtMs)).toMatchObject({ orphans: [] });
    await snapshot([member(A, 0), member(B, 1)]);
    expect(await sync()).toMatchObject({ orphans: [] });
    await snapshot([member(A, 0)]);
    expect(await sync()).toMatchObject({ removed: 1, orphans: [] });
  });

  test('not by looks that saw nothing, nor by the first into an empty table', async () => {
    await snapshot([member(A, 0)]);
    await sync();
    await snapshot([]);
    for (let look = 0; look < 3; look++) expect(await sync()).toMatchObject({ kind: 'kept' });
    await database.knex('metagraph_nodes').delete();
    await snapshot([member(A, 0)]);
    expect(await sync()).toMatchObject({ kind: 'synced', orphans: [] });
    expect(await sync()).toMatchObject({ orphans: orphan('left') });
  });

  test('at once when its miner is blacklisted', async () => {
    await database.knex('metagraph_nodes').where({ hotkey: B }).update({ blacklist_reason: 'lied' });
    expect(await sync()).toMatchObject({ orphans: orphan('blacklisted') });
  });
});

test('a missing file removes nobody', async () => {
  await rm(join(dir, 'metagraph.json'), { force: true });
  expect(await sync()).toEqual({ kind: 'kept', reason: 'snapshot is not readable: ENOENT' });
  expect(await hotkeys()).toEqual([A, B]);
});
