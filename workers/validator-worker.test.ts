import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { SEARCH_ATTRIBUTES } from '../workflows/search-attributes.ts';
import { ensureValidatorSchedules } from './schedules.ts';
import { policy } from './testing/node-world.ts';
import { createTestDatabase } from './testing/database.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let env: TestWorkflowEnvironment;
let dir: string;
beforeAll(async () => {
  const path = process.env.CANOPY_TEST_TEMPORAL_BINARY ?? '';
  const searchAttributes = Object.values(SEARCH_ATTRIBUTES);
  [database, env, dir] = await Promise.all([
    createTestDatabase('validator'),
    TestWorkflowEnvironment.createLocal({ server: { executable: { type: 'existing-path', path }, searchAttributes } }),
    mkdtemp(join(tmpdir(), 'canopy-worker-')),
  ]);
}, 60_000);
afterAll(async () => {
  await env.teardown();
  await database.drop();
  await rm(dir, { recursive: true, force: true });
}, 60_000);

test('schedules are made once and updated after, whoever starts second', async () => {
  for (let start = 0; start < 2; start++) await ensureValidatorSchedules(env.client, { netuid: 64, nodes: policy });
  const { policies, spec, action } = await env.client.schedule.getHandle('metagraph/64').describe();
  expect(policies).toMatchObject({ overlap: 'SKIP', catchupWindow: 60_000 });
  expect(spec.intervals).toEqual([expect.objectContaining({ every: 30_000 })]);
  expect(action).toMatchObject({
    workflowType: 'metagraphSync',
    args: [{ netuid: 64 }],
    taskQueue: 'validator',
  });
  expect(await env.client.schedule.getHandle('housekeeping').describe()).toMatchObject({
    spec: { intervals: [{ every: 3_600_000 }] },
    action: { workflowType: 'housekeeping', taskQueue: 'validator' },
  });
});

/** The program as an operator starts it, proving by povw. */
const start = (over: Record<string, string>) =>
  spawn(process.execPath, [join(import.meta.dirname, 'validator-worker.ts')], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      NODE_OPTIONS: '',
      CANOPY_DATABASE_URL: database.url,
      CANOPY_TEMPORAL_ADDRESS: env.address,
      CANOPY_TEMPORAL_NAMESPACE: env.namespace ?? 'default',
      CANOPY_S3_ENDPOINT: process.env.CANOPY_TEST_S3_ENDPOINT,
      CANOPY_S3_BUCKET: 'canopy',
      CANOPY_S3_ACCESS_KEY: 'test',
      CANOPY_S3_SECRET_KEY: 'testsecret',
      CANOPY_PUBLIC_URL: 'http://127.0.0.1:8000',
      CANOPY_VALIDATOR_SEED: '11'.repeat(32),
      CANOPY_KEY_PEPPER: '22'.repeat(32),
      CANOPY_SECRETS_KEY: '33'.repeat(32),
      CANOPY_LAUNCH_KEY: 'a launch key for tests',
      CANOPY_PROOF: 'povw',
      CANOPY_WORK_DIR: join(import.meta.dirname, '../.canopy/test-worker'),
      ...over,
    },
  });

test('the program starts with povw, reads the metagraph at once, and ends cleanly when told', async () => {
  const hotkey = '5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY';
  const file = join(dir, 'metagraph.json');
  await writeFile(file, JSON.stringify([{ hotkey, coldkey: hotkey, uid: 0, stake_rao: '1', host: null, port: null }]));
  const worker = start({ CANOPY_METAGRAPH_FILE: file });
  const ended = once(worker, 'exit');
  worker.stdout.resume();
  worker.stderr.pipe(process.stderr);
  const members = () => database.knex('metagraph_nodes').where({ netuid: 64 });
  while ((await members()).length === 0 && worker.exitCode === null) await sleep(100);
  expect((await members()).map((row: { hotkey: string }) => row.hotkey)).toEqual([hotkey]);
  worker.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
}, 90_000);

test('a table of profiles that cannot be used ends the program, which says where it is wrong', async () => {
  const file = join(dir, 'profiles.json');
  await writeFile(file, JSON.stringify({ rows: [{ gpu: 'h100' }] }));
  const worker = start({ CANOPY_POVW_PROFILES: file });
  const said: string[] = [];
  worker.stdout.resume();
  worker.stderr.setEncoding('utf8').on('data', (text: string) => void said.push(text));
  expect(await once(worker, 'exit')).toEqual([1, null]);
  expect(said.join('')).toContain('profiles.json is not usable:\n  row 1 (h100), n:');
}, 60_000);
