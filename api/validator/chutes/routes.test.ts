import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { TypedSearchAttributes } from '@temporalio/common';
import { Worker } from '@temporalio/worker';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import type { RequestHandler } from 'express';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { BlobStore } from '../../../activities/clients/s3.ts';
import { SecretBox } from '../../../activities/clients/secret-box.ts';
import { refusalInterceptor } from '../../../activities/refusal-interceptor.ts';
import { createChuteActivities } from '../../../activities/validator/chutes/chute-activities.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { createTimeSkippingEnvironment } from '../../../workers/testing/workflow-environment.ts';
import { chuteIdOf, chuteVersionOf } from '../../../workflows/domain/ids.ts';
import { chuteWorkflowId } from '../../../workflows/ids.ts';
import { TASK_QUEUES } from '../../../workflows/task-queues.ts';
import { chuteStatus, requestLaunch } from '../../../workflows/validator/chutes/messages.ts';
import { createApp } from '../../http/app.ts';
import { minerRoutes } from '../miner/routes.ts';
import { streamItems } from '../miner/stream-items.ts';
import type { ValidatorDeps } from '../deps.ts';
import { chuteRoutes } from './routes.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let env: TestWorkflowEnvironment;
let server: Server;
let base: string;
let stopWorker: () => Promise<void>;
const ids = { ada: randomUUID(), bob: randomUUID(), image: randomUUID() };

/** Who is calling is the auth slice's matter: here a header says it. */
const caller =
  (optional: boolean): RequestHandler =>
  (req, res, next) => {
    const name = req.get('x-test-user');
    if (name === undefined) return void (optional ? next() : res.status(401).json({ detail: 'who?' }));
    res.locals.caller = {
      userId: name === 'ada' ? ids.ada : ids.bob,
      username: name,
      hotkey: name,
      permissionsBitmask: name === 'ada' ? 1 << 11 : 0,
      via: 'hotkey',
    };
    next();
  };

beforeAll(async () => {
  [database, env] = await Promise.all([createTestDatabase('validator'), createTimeSkippingEnvironment()]);
  const db = database.knex;
  for (const [username, userId] of [
    ['ada', ids.ada],
    ['bob', ids.bob],
  ]) {
    await db('users').insert({
      user_id: userId,
      username,
      hotkey: username,
      coldkey: 'ck',
      payment_address: username,
      payment_secret_sealed: Buffer.from('x'),
      fingerprint_hash: username,
    });
  }
  await db('images').insert({
    image_id: ids.image,
    user_id: ids.ada,
    name: 'img',
    tag: '1.0',
    public: true,
    status: 'built and pushed',
    chutes_version: '0.6.9',
    context_key: 'c',
    context_sha256: 'c',
    dockerfile_key: 'd',
    dockerfile_sha256: 'd',
    artifact: JSON.stringify({ kind: 'archive', key: 'k' }),
  });
  const blobs = new BlobStore({
    endpoint: process.env.CANOPY_TEST_S3_ENDPOINT ?? '',
    region: 'us-east-1',
    bucket: 'canopy',
    accessKey: 'test',
    secretKey: 'testsecret',
  });
  const box = new SecretBox('22'.repeat(32));
  const deadlines = { claimMs: 7_200_000, proofMs: 1, activationMs: 1, probeIntervalMs: 1, silenceGraceMs: 1 };
  const worker = await Worker.create({
    connection: env.nativeConnection,
    taskQueue: TASK_QUEUES.validator,
    activities: createChuteActivities({ db, blobs, box, deadlines }),
    workflowsPath: join(import.meta.dirname, '../../../workflows/validator/chutes/stub-instances.fixture.ts'),
    interceptors: { activity: [() => ({ inbound: refusalInterceptor() })] },
  });
  const running = worker.run();
  stopWorker = async () => {
    worker.shutdown();
    await running;
    blobs.close();
  };
  const registered: RequestHandler = (_req, res, next) => {
    res.locals.miner = { hotkey: 'm1', coldkey: 'c1', uid: 1, blacklistReason: null };
    next();
  };
  const deps = {
    config: { CANOPY_MODE: 'development', CANOPY_NETUID: 64 },
    db,
    temporal: env.client,
    blobs,
    box,
    log: pino({ level: 'silent' }),
    registry: new Registry(),
    auth: {
      user: (options?: { optional?: boolean }) => caller(options?.optional ?? false),
      registered: () => registered,
      launchToken: registered,
    },
  } as unknown as ValidatorDeps;
  server = createServer(
    createApp({ program: 'test', log: deps.log, routers: [chuteRoutes(deps), minerRoutes(deps)] }),
  ).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}, 90_000);
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await stopWorker();
  await env.teardown();
  await database.drop();
});

async function call(method: string, path: string, { user, body }: { user?: string; body?: unknown } = {}) {
  const response = await fetch(`${base}${path}`, {
    method,
    headers: user ? { 'x-test-user': user } : {},
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return {
    status: response.status,
    text,
    json: text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : null,
  };
}
const args = (over: Record<string, unknown> = {}) => ({
  name: 'My_Chute',
  image: 'ada/img:1.0',
  public: true,
  code: 'print(1)',
  filename: 'chute.py',
  ref_str: 'chute:chute',
  encrypted_fs: true,
  node_selector: { gpu_count: 1, include: ['H100'], compute_multiplier: 9 },
  cords: [
    {
      method: 'POST',
      path: '/chat',
      function: 'chat',
      stream: true,
      public_api_path: '/v1/chat/completions',
      public_api_method: 'POST',
      input_schema: { a: 1 },
    },
  ],
  ...over,
});
const chuteId = chuteIdOf('ada', 'My_Chute');

test('a chute is deployed, read, listed, scaled, changed, shared, warmed up and deleted', async () => {
  const created = await call('POST', '/chutes/?accept_fee=False', { user: 'ada', body: args() });
  expect(created.status).toBe(200);
  expect(Object.keys(created.json).toSorted()).toEqual(
    [
      'boost',
      'chute_id',
      'chutes_version',
      'concurrency',
      'cord_ref_id',
      'cords',
      'created_at',
      'current_estimated_price',
      'discount',
      'hot',
      'image',
      'instances',
      'invocation_count',
      'jobs',
      'logo',
      'logo_id',
      'max_instances',
      'name',
      'node_selector',
      'openrouter',
      'preemptible',
      'public',
      'readme',
      'revision',
      'scaling_threshold',
      'shutdown_after_seconds',
      'slug',
      'standard_template',
      'supported_gpus',
      'tagline',
      'tool_description',
      'updated_at',
      'user',
      'version',
    ].filter((key) => key !== 'discount'),
  );
  expect(created.json).toMatchObject({
    chute_id: chuteId,
    version: chuteVersionOf(ids.image, 'initial', 'print(1)'),
    slug: 'ada-my-chute',
    supported_gpus: ['h100'],
    max_instances: null,
    node_selector: { include: ['h100'], compute_multiplier: 1_790_000 / 4_500_000, supported_gpus: ['h100'] },
    user: { username: 'ada' },
    image: { image_id: ids.image, user: { username: 'ada' } },
    hot: false,
    current_estimated_price: { usd: { hour: 1.79 } },
  });
  expect((await call('POST', '/chutes/', { user: 'ada', body: args() })).status).toBe(409);

  for (const name of [chuteId, 'My_Chute', 'my_chute', 'ADA/my_chute'])
    expect((await call('GET', `/chutes/${name}`)).json.chute_id).toBe(chuteId);
  expect((await call('GET', '/chutes/My%25Chute')).status).toBe(404);
  const list = await call('GET', '/chutes/?include_public=True&name=y_c&limit=5', { user: 'bob' });
  expect(list.json).toMatchObject({ total: 1, page: 0, limit: 5, items: [{ chute_id: chuteId, cords: null }] });
  expect(list.json.cord_refs[list.json.items[0].cord_ref_id]).toEqual([
    expect.not.objectContaining({ input_schema: expect.anything() }),
  ]);
  expect((await call('GET', '/chutes/?include_public=true&name=y%25c', { user: 'bob' })).json.total).toBe(0);
  expect((await call('GET', '/chutes/', { user: 'bob' })).json.total).toBe(0);
  expect(await call('GET', `/chutes/code/${chuteId}`)).toMatchObject({ status: 200, text: 'print(1)' });

  expect(
    (await call('PUT', `/chutes/${chuteId}/target_count`, { user: 'bob', body: { target_count: 2 } })).status,
  ).toBe(404);
  expect(
    (await call('PUT', `/chutes/${chuteId}/target_count`, { user: 'ada', body: { target_count: 2 } })).json,
  ).toEqual({ chute_id: chuteId, target_count: 2 });
  expect(
    (await call('PUT', '/chutes/My_Chute', { user: 'ada', body: { tagline: 'fast', readme: '' } })).json,
  ).toMatchObject({ tagline: 'fast', readme: '' });
  expect(
    (
      await call('POST', '/chutes/share', {
        user: 'ada',
        body: { chute_id_or_name: 'My_Chute', user_id_or_name: 'bob' },
      })
    ).status,
  ).toBe(400);
  expect((await call('GET', `/chutes/warmup/${chuteId}?quick=true`)).json).toMatchObject({
    status: 'cold',
    instance_count: 0,
    instances: [],
  });
  expect((await call('GET', '/chutes/utilization')).json).toEqual([
    expect.objectContaining({
      chute_id: chuteId,
      scalable: true,
      scale_allowance: 2,
      update_in_progress: false,
      target_count: 2,
    }),
  ]);
  expect((await call('GET', '/chutes/gpu_count_history')).json).toEqual([{ chute_id: chuteId, gpu_count: 1 }]);
  expect((await call('POST', `/chutes/${chuteId}/chat`, { user: 'ada', body: {} })).status).toBe(404);

  const launch = { minerHotkey: 'm1', minerColdkey: 'c1', minerUid: 1, requestedAtMs: 0 };
  const { configId } = await env.client.workflow
    .getHandle(chuteWorkflowId(chuteId))
    .executeUpdate(requestLaunch, { args: [launch] });
  expect(
    await database.knex('launch_configs').where({ config_id: configId }).first('chute_id', 'miner_hotkey'),
  ).toEqual({ chute_id: chuteId, miner_hotkey: 'm1' });
  const status = await env.client.workflow.getHandle(chuteWorkflowId(chuteId)).query(chuteStatus);
  expect(status.deployment).toMatchObject({ targetCount: 2 });
  const described = await env.client.workflow.getHandle(chuteWorkflowId(chuteId)).describe();
  expect(described.typedSearchAttributes).toBeInstanceOf(TypedSearchAttributes);

  const streamed = await call('GET', '/miner/chutes/');
  const [line, blank] = streamed.text.split('\n');
  expect([line?.startsWith('data: {'), blank]).toEqual([true, '']);
  expect(JSON.parse(line?.slice(6) ?? '')).toMatchObject({
    chute_id: chuteId,
    code: 'print(1)',
    image: 'ada/img:1.0',
    image_id: ids.image,
    preemptible: true,
    tee: false,
    effective_compute_multiplier: 1_790_000 / 4_500_000,
    supported_gpus: ['h100'],
    bounty: expect.any(Number),
    canopy: { artifact: { kind: 'archive', key: 'k' }, minimum_trust_level: 'none' },
  });
  expect((await call('GET', `/miner/chutes/${chuteId}/${created.json.version}`)).json.chute_id).toBe(chuteId);
  expect((await call('GET', `/miner/chutes/${chuteId}/${randomUUID()}`)).status).toBe(404);

  expect((await call('DELETE', '/chutes/my_chute', { user: 'bob' })).status).toBe(404);
  expect((await call('DELETE', '/chutes/my_chute', { user: 'ada' })).json).toEqual({
    chute_id: chuteId,
    deleted: true,
  });
  expect((await call('GET', `/chutes/${chuteId}`)).status).toBe(404);
  expect((await call('GET', '/miner/chutes/')).text).toBe('');
}, 60_000);

test.each<[string, Record<string, unknown>, number]>([
  ['a path outside its charset', { cords: [{ ...args().cords[0], path: '/a-b' }] }, 422],
  ['an unknown GPU', { node_selector: { include: ['z9'] } }, 422],
  ['a name with a space', { name: 'a b c' }, 422],
  ['code past its size', { code: 'x'.repeat(150_001) }, 422],
  ['empty code', { code: '  ' }, 400],
  ['neither cords nor jobs', { cords: [] }, 400],
  ['an unknown image', { image: 'ada/none:1' }, 400],
  ['vllm without a revision', { standard_template: 'vllm' }, 400],
])('deploy with %s is refused and writes nothing', async (_, over, status) => {
  const answer = await call('POST', '/chutes/', { user: 'ada', body: args({ name: 'Refused_One', ...over }) });
  expect([answer.status, typeof answer.json.detail === 'string' || Array.isArray(answer.json.detail)]).toEqual([
    status,
    true,
  ]);
  expect(await database.knex('chutes').whereRaw(`name ilike 'Refused%'`).first()).toBeUndefined();
});

test('a private chute is its owner’s until shared, and a user without the role cannot publish', async () => {
  expect((await call('POST', '/chutes/', { user: 'bob', body: args() })).status).toBe(400);
  expect(
    (await call('POST', '/chutes/', { user: 'bob', body: args({ name: 'secret', public: false, tee: true }) })).status,
  ).toBe(200);
  const see = async (user?: string) => (await call('GET', '/chutes/bob/secret', user ? { user } : {})).status;
  expect([await see('bob'), await see('ada'), await see()]).toEqual([200, 404, 404]);
  const share = { chute_id_or_name: 'secret', user_id_or_name: 'ADA' };
  expect((await call('POST', '/chutes/share', { user: 'bob', body: share })).status).toBe(200);
  expect((await call('POST', '/chutes/share', { user: 'bob', body: share })).status).toBe(200);
  expect(await see('ada')).toBe(200);
  expect((await call('DELETE', '/chutes/bob/secret', { user: 'ada' })).status).toBe(404);
  expect((await call('POST', '/chutes/unshare', { user: 'bob', body: share })).status).toBe(200);
  expect(await see('ada')).toBe(404);
  expect(await database.knex('chutes').where({ name: 'secret' }).first('minimum_trust_level', 'max_instances')).toEqual(
    { minimum_trust_level: 'attested', max_instances: 1 },
  );
});

test('miner lists: exact seeds, an explicit empty set, the metagraph', async () => {
  const db = database.knex;
  expect((await call('GET', '/miner/instances/?explicit_null=True')).text).toBe('data: NO_ITEMS\n\n');
  expect((await call('GET', '/miner/instances/')).text).toBe('');
  await db('nodes').insert({
    uuid: 'ab'.repeat(16),
    miner_hotkey: 'm1',
    server_id: 's1',
    server_name: 'box',
    task_id: 't',
    name: 'gpu',
    memory: 1,
    clock_rate: 1,
    device_index: 0,
    gpu_identifier: 'h100',
    verification_host: '10.0.0.1',
    verification_port: 1,
    seed: '9007199254740993',
  });
  expect((await call('GET', '/miner/nodes/')).text).toContain('"seed":9007199254740993}');
  expect((await call('GET', '/miner/images/')).text).toMatch(/^data: \{"image_id":.*"username":"ada".*\}\n\n$/);
  expect((await call('GET', '/miner/inventory')).json).toEqual([
    {
      gpu_id: 'ab'.repeat(16),
      last_verified_at: null,
      verification_error: null,
      active: false,
      chute_id: null,
      chute_name: null,
    },
  ]);
  expect((await call('GET', '/miner/servers/')).json).toMatchObject({
    servers: [{ server_id: 's1', name: 'box', ip: '10.0.0.1', is_tee: false, gpus: [{ gpu_identifier: 'h100' }] }],
  });
  expect((await call('GET', '/miner/active_instances/')).json).toEqual([]);
  expect((await call('GET', '/miner/jobs/')).text).toBe('');
  expect((await call('GET', '/miner/metrics/')).text).toMatch(/^data: \{"chute_id"/);
  await db('metagraph_nodes').insert({
    netuid: 64,
    hotkey: 'm1',
    coldkey: 'c1',
    uid: 7,
    stake_rao: '2500000000',
    host: '10.0.0.1',
    port: 80,
    synced_at: new Date(),
  });
  expect((await call('GET', '/miner/metagraph')).json).toEqual([
    expect.objectContaining({ hotkey: 'm1', node_id: 7, stake: 2.5, ip: '10.0.0.1', port: 80 }),
  ]);
});

test('a list that fails midway is a cut connection, never a shorter list', async () => {
  async function* failing(afterItems: number): AsyncGenerator<unknown> {
    for (let index = 0; index < afterItems; index++) yield { index };
    throw new Error('the database is gone');
  }
  const app = createApp({
    program: 'test',
    log: pino({ level: 'silent' }),
    registry: new Registry(),
    routers: [
      (await import('express'))
        .Router()
        .get('/after/:items', (req, res) => streamItems(res, failing(Number(req.params.items)))),
    ],
  });
  const failingServer = createServer(app).listen(0, '127.0.0.1');
  await new Promise((resolve) => failingServer.once('listening', resolve));
  const address = `http://127.0.0.1:${(failingServer.address() as AddressInfo).port}`;
  await expect(fetch(`${address}/after/3`).then((response) => response.text())).rejects.toThrow(
    /terminated|fetch failed/,
  );
  expect((await fetch(`${address}/after/0`)).status).toBe(500);
  failingServer.close();
});
