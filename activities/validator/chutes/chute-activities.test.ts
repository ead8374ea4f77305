import { createHash, randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { ChuteDefinition } from '../../../workflows/domain/chutes/chute-definition.ts';
import type { RollingUpdate } from '../../../workflows/domain/chutes/plan-chute.ts';
import { SecretBox } from '../../clients/secret-box.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { createChuteActivities, launchKeyContext } from './chute-activities.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
const blobs = new Map<string, Buffer>();
const box = new SecretBox('11'.repeat(32));
const deadlines = { claimMs: 7_200_000, proofMs: 1, activationMs: 1, probeIntervalMs: 1, silenceGraceMs: 1 };
const userId = randomUUID();
const imageId = randomUUID();
const activities = () =>
  createChuteActivities({
    db: database.knex,
    blobs: { get: (key) => Promise.resolve(blobs.get(key) ?? null) },
    box,
    deadlines,
  });

beforeAll(async () => {
  database = await createTestDatabase('validator');
  const db = database.knex;
  await db('users').insert({
    user_id: userId,
    username: 'ada',
    hotkey: 'hk',
    coldkey: 'ck',
    payment_address: 'pa',
    payment_secret_sealed: Buffer.from('x'),
    fingerprint_hash: 'f',
  });
  await db('images').insert({
    image_id: imageId,
    user_id: userId,
    name: 'img',
    tag: '1',
    public: true,
    status: 'built and pushed',
    chutes_version: '0.6.9',
    context_key: 'c',
    context_sha256: 'c',
    dockerfile_key: 'd',
    dockerfile_sha256: 'd',
  });
}, 60_000);
afterAll(() => database.drop());

function define(over: Partial<ChuteDefinition> = {}) {
  const definition: ChuteDefinition = {
    chuteId: randomUUID(),
    userId,
    imageId,
    name: `n-${randomUUID()}`,
    slug: `s-${randomUUID()}`,
    version: randomUUID(),
    public: true,
    code: 'x = 1',
    filename: 'a.py',
    refStr: 'a:b',
    standardTemplate: null,
    tagline: '',
    readme: '',
    toolDescription: null,
    logoId: null,
    nodeSelector: { gpu_count: 1, min_vram_gb_per_gpu: 16, include: null, exclude: null },
    cords: [],
    concurrency: 1,
    revision: null,
    maxInstances: null,
    scalingThreshold: null,
    shutdownAfterSeconds: null,
    allowExternalEgress: false,
    minimumTrustLevel: 'none',
    chutesVersion: '0.6.9',
    feeMicroUsd: 0,
    ...over,
  };
  const bytes = Buffer.from(JSON.stringify(definition));
  const definitionSha256 = createHash('sha256').update(bytes).digest('hex');
  blobs.set(definitionSha256, bytes);
  return {
    definition,
    deploy: {
      definitionKey: definitionSha256,
      definitionSha256,
      userId,
      chuteId: definition.chuteId,
      version: definition.version,
      public: definition.public,
      receivedAtMs: 1,
      rolling: null as RollingUpdate | null,
    },
  };
}
const launchOf = (chuteId: string, version: string) => ({
  chuteId,
  version,
  configId: randomUUID(),
  instanceId: randomUUID(),
  minerHotkey: 'm1',
  minerColdkey: 'c1',
  minerUid: 3,
  requestedAtMs: 0,
  permitted: null,
});
async function runInstance(launch: ReturnType<typeof launchOf>): Promise<void> {
  const db = database.knex;
  const uuid = randomUUID().replaceAll('-', '');
  await db('nodes').insert({
    uuid,
    miner_hotkey: 'm1',
    task_id: 't',
    name: 'gpu',
    memory: 1,
    clock_rate: 1,
    device_index: 0,
    gpu_identifier: 'h100',
    verification_host: 'h',
    verification_port: 1,
    seed: 1,
  });
  await db('instances').insert({
    instance_id: launch.instanceId,
    config_id: launch.configId,
    chute_id: launch.chuteId,
    version: launch.version,
    miner_hotkey: 'm1',
    miner_coldkey: 'c1',
    miner_uid: 3,
    host: randomUUID(),
    port: 1,
    port_mappings: '[]',
    transport: 'canopy/1',
    gpu_count: 1,
    gpu_model_name: 'gpu',
    hourly_rate_micro_usd: 1,
    compute_multiplier: 0.5,
    chutes_version: '0.6.9',
    active: true,
    verified: true,
  });
  await db('instance_nodes').insert({ node_uuid: uuid, instance_id: launch.instanceId });
}
/** Everything a chute's activities may touch, without what only counts or dates. */
async function snapshot(): Promise<unknown> {
  const db = database.knex;
  const tables = [
    'chutes',
    'chute_operations',
    'rolling_updates',
    'launch_configs',
    'instances',
    'instance_audit',
    'instance_nodes',
    'events',
    'ledger',
  ];
  const rows = await Promise.all(tables.map(async (table) => [table, await db(table).orderBy(1 as unknown as string)]));
  return JSON.parse(JSON.stringify(rows, (key, value: unknown) => (key === 'updated_at' ? null : value)));
}

test('every mutating activity run twice leaves the same state', async () => {
  const { knex: db } = database;
  const act = activities();
  const first = define({ public: false, feeMicroUsd: 5_000_000 });
  const { chuteId } = first.definition;
  const second = define({ ...first.definition, version: randomUUID() });
  const rolling: RollingUpdate = {
    oldVersion: first.definition.version,
    newVersion: second.definition.version,
    startedAtMs: 1000,
    gapMs: 1,
    nextNoticeAtMs: 1,
    waiting: [],
    permitted: { m1: 2 },
  };
  const launch = launchOf(chuteId, first.definition.version);
  const steps: [string, () => Promise<unknown>][] = [
    ['create', () => act.saveDeployment(first.deploy)],
    ['target', () => act.saveTargetCount({ chuteId, targetCount: 3 })],
    ['issue', () => act.issueLaunch(launch)],
    ['update', () => act.saveDeployment({ ...second.deploy, rolling })],
    ['issue with quota', () => act.issueLaunch({ ...launch, permitted: { m1: 1 } })],
    ['bounty', () => act.announceBounty({ chuteId, bounty: 100 })],
    [
      'notice',
      () =>
        act.announceUpdate({
          chuteId,
          instanceId: launch.instanceId,
          minerHotkey: 'm1',
          oldVersion: 'a',
          newVersion: 'b',
        }),
    ],
    ['end update', () => act.endRollingUpdate({ chuteId, newVersion: second.definition.version })],
    ['forget a launch', () => act.forgetLaunch({ instanceId: launch.instanceId, code: 'scaled_down' })],
    ['forget the chute', () => act.forgetChute({ chuteId })],
  ];
  for (const [name, step] of steps) {
    const before = await snapshot();
    if (name === 'forget a launch') await runInstance(launch);
    const result = await step();
    const once = await snapshot();
    expect([name, once]).not.toEqual([name, before]);
    expect([name, await step()]).toEqual([name, result]);
    expect([name, await snapshot()]).toEqual([name, once]);
  }
  expect(await db('ledger').select('amount_micro_usd', 'reason')).toEqual([
    { amount_micro_usd: -5_000_000, reason: 'deploy_fee' },
  ]);
  const told = await db('events').orderBy('seq').select<{ payload: { reason: string } }[]>('payload');
  expect(told.map(({ payload }) => payload.reason)).toEqual([
    'chute_created',
    'chute_updated',
    'bounty_change',
    'bounty_change',
    'rolling_update',
    'instance_deleted',
    'instance_deleted',
    'chute_deleted',
  ]);
  expect(await db('instance_audit').first()).toMatchObject({
    removal_code: 'scaled_down',
    gpu_uuids: [expect.any(String)],
  });
});

test('a launch key is sealed, opens only for its own launch, and never leaves in the answer', async () => {
  const { definition, deploy } = define();
  await activities().saveDeployment(deploy);
  const launch = launchOf(definition.chuteId, definition.version);
  const answer = await activities().issueLaunch(launch);
  expect(Object.keys(answer).toSorted()).toEqual(['deadlines', 'permittedAtMs']);
  const row = await database.knex('launch_configs').where({ config_id: launch.configId }).first();
  expect(box.open(row.ephemeral_key_sealed, launchKeyContext(launch.configId))).toMatch(/^[0-9a-f]{96}$/);
  expect(() => box.open(row.ephemeral_key_sealed, launchKeyContext(randomUUID()))).toThrow();
  expect(row).toMatchObject({
    env_key: expect.stringMatching(/^[0-9a-f]{32}$/),
    ephemeral_public_key: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
  expect(row.expires_at.getTime() - row.created_at.getTime()).toBe(deadlines.claimMs);
});

test('bytes that are not the accepted definition are never deployed', async () => {
  const { deploy } = define();
  await expect(activities().saveDeployment({ ...deploy, definitionSha256: 'ff' })).rejects.toThrow(
    'not the accepted one',
  );
  await expect(activities().saveDeployment({ ...deploy, version: randomUUID() })).rejects.toThrow(
    'another chute or version',
  );
  expect(await database.knex('chutes').where({ chute_id: deploy.chuteId }).first()).toBeUndefined();
});

test('a taken slug gets a suffix; an update keeps the slug', async () => {
  const one = define();
  const two = define({ slug: one.definition.slug });
  await activities().saveDeployment(one.deploy);
  await activities().saveDeployment(two.deploy);
  const slugOf = async (chuteId: string): Promise<string> =>
    (await database.knex('chutes').where({ chute_id: chuteId }).first('slug')).slug;
  expect(await slugOf(one.definition.chuteId)).toBe(one.definition.slug);
  expect(await slugOf(two.definition.chuteId)).toMatch(new RegExp(`^${one.definition.slug}-[a-z0-9]{5}$`));
});

test('a workflow without memory finds its launches, its update and its target in the rows', async () => {
  const { definition, deploy } = define();
  const act = activities();
  await act.saveDeployment(deploy);
  const [running, permitted, failed] = [1, 2, 3].map(() => launchOf(definition.chuteId, definition.version));
  if (!running || !permitted || !failed) throw new Error('three launches');
  for (const launch of [running, permitted, failed]) await act.issueLaunch(launch);
  await runInstance(running);
  await act.forgetLaunch({ instanceId: failed.instanceId, code: 'launch_failed' });
  const loaded = await act.loadChute({ chuteId: definition.chuteId });
  expect(loaded.deployment).toEqual({
    chuteId: definition.chuteId,
    version: definition.version,
    public: true,
    targetCount: 1,
  });
  expect(Object.keys(loaded.launches).toSorted()).toEqual([running.instanceId, permitted.instanceId].toSorted());
  expect(loaded.launches[running.instanceId]).toMatchObject({ active: true, verified: true, minerHotkey: 'm1' });
  const seen = await act.inspectLaunches({
    chuteId: definition.chuteId,
    instanceIds: [running.instanceId, permitted.instanceId, failed.instanceId, randomUUID()],
  });
  expect(seen.gone).toEqual([failed.instanceId]);
});
