import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { msToTs } from '@temporalio/common/lib/time.js';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { refusalInterceptor } from '../../../activities/refusal-interceptor.ts';
import { createLogger } from '../../../activities/clients/log.ts';
import type { Hotkey } from '../../../activities/clients/hotkey.ts';
import { createNodeActivities } from '../../../activities/validator/nodes/node-activities.ts';
import { createSweepActivities } from '../../../activities/validator/nodes/sweep-activities.ts';
import { createProofSessionActivities } from '../../../activities/validator/proof/proof-session-activities.ts';
import { createProofVerificationActivities } from '../../../activities/validator/proof/proof-verification-activities.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { workflowBundle } from '../../../workers/bundle.ts';
import { nodePolicyOf } from '../../../workers/config/validator.ts';
import { GPU_TYPES, gpuType } from '../../../workflows/domain/gpus/gpu-table.ts';
import { simulatedProfile } from '../../../workflows/domain/proof/profiles.ts';
import { nodeWorkflowId, sweepWorkflowId } from '../../../workflows/ids.ts';
import { SEARCH_ATTRIBUTES } from '../../../workflows/search-attributes.ts';
import { TASK_QUEUES } from '../../../workflows/task-queues.ts';
import { dueSweeps } from '../../../workflows/validator/nodes/due-sweeps.ts';
import { nodeStatus, verifyNow } from '../../../workflows/validator/nodes/messages.ts';
import { createAgentAuth } from '../../agent/agent-auth.ts';
import { findDevices, plausibleDevice, type Inventory } from '../../agent/devices.ts';
import { ProofSessions } from '../../agent/proof-sessions.ts';
import { agentRoutes } from '../../agent/routes.ts';
import { createApp } from '../../http/app.ts';
import { parseExactJson } from '../../http/exact-json.ts';
import { insertMiner, insertUser, listen, testDeps } from '../testing/test-api.ts';
import { nodeRoutes } from './routes.ts';

/** The real routes, workflows, activities, Temporal, Postgres and S3, and an agent with two simulated GPUs on loopback. */
let dir: string;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let built: Awaited<ReturnType<typeof testDeps>>;
let api: Awaited<ReturnType<typeof listen>>;
let agent: Awaited<ReturnType<typeof listen>>;
let environment: TestWorkflowEnvironment;
let inventory: Inventory;
let sessions: ProofSessions;
let miner: Hotkey;
let workers: Worker[] = [];
let running: Promise<unknown>;
/** lets a test cheat for a device of the agent */
const agentSees: { name: string | null } = { name: null };

beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  dir = await mkdtemp(join(tmpdir(), 'canopy-nodes-'));
  const namespace = `nodes-${randomBytes(4).toString('hex')}`; // of our own: other tests poll the same queue names
  const address = process.env.CANOPY_TEST_TEMPORAL ?? '';
  environment = await TestWorkflowEnvironment.createFromExistingServer({ address, namespace });
  await environment.connection.workflowService.registerNamespace({
    namespace,
    workflowExecutionRetentionPeriod: msToTs('1 day'),
  });
  await eventually(() =>
    environment.connection.operatorService.addSearchAttributes({
      namespace,
      searchAttributes: Object.fromEntries(Object.values(SEARCH_ATTRIBUTES).map(({ name }) => [name, 2])),
    }),
  );
  database = await createTestDatabase('validator');
  built = await testDeps(database, {
    env: { CANOPY_TEMPORAL_NAMESPACE: namespace, CANOPY_TEMPORAL_ADDRESS: address, CANOPY_SILENCE_GRACE_MS: '1000' },
  });
  const { deps } = built;
  miner = await insertMiner(deps.db);

  inventory = await findDevices({ simulatedGpus: '2xh100_sxm', workDir: dir });
  sessions = new ProofSessions({
    minerHotkey: miner.address,
    gpuUuids: inventory.devices.map(({ uuid }) => uuid),
    idleMs: 60_000,
  });
  const shown: Inventory = {
    simulated: true,
    get devices() {
      return inventory.devices.map((device) => ({ ...device, name: agentSees.name ?? device.name }));
    },
  };
  const auth = createAgentAuth({ minerHotkey: miner.address, validatorHotkeys: [deps.hotkey.address] });
  agent = await listen(
    createApp({
      program: 'agent',
      log: deps.log,
      routers: [agentRoutes({ auth, inventory: shown, sessions, workDir: dir })],
    }),
  );

  const bundle = await workflowBundle(
    join(import.meta.dirname, '../../../workers/testing/node-workflows.ts'),
    join(import.meta.dirname, '../../../.canopy/test-bundles'),
  );
  const common = {
    connection: environment.nativeConnection,
    namespace,
    interceptors: { activity: [() => ({ inbound: refusalInterceptor() })] },
  };
  const nodeActivities = createNodeActivities({
    db: deps.db,
    blobs: deps.blobs,
    hotkey: deps.hotkey,
    config: deps.config,
  });
  workers = [
    await Worker.create({ ...common, taskQueue: TASK_QUEUES.agents, activities: nodeActivities }),
    await Worker.create({ ...common, taskQueue: TASK_QUEUES.openings, activities: nodeActivities }),
    await Worker.create({
      ...common,
      taskQueue: TASK_QUEUES.validator,
      workflowBundle: bundle,
      activities: {
        ...nodeActivities,
        ...createProofSessionActivities({ profileFor: simulatedProfile }),
        ...createSweepActivities({ db: deps.db, everyMs: 86_400_000 }),
      },
    }),
    await Worker.create({
      ...common,
      taskQueue: TASK_QUEUES.gpu,
      activities: createProofVerificationActivities({ blobs: deps.blobs }),
    }),
  ];
  running = Promise.all(workers.map((worker) => worker.run()));
  api = await listen(createApp({ program: 'api', log: createLogger('test', 'silent'), routers: [nodeRoutes(deps)] }));
}, 120_000);

afterEach(() => clear(), 60_000);

afterAll(async () => {
  for (const worker of workers) worker.shutdown();
  await running;
  for (const server of [api, agent]) server.close();
  await sessions.closeAll();
  await environment.teardown();
  await built.close();
  await database.drop();
  await rm(dir, { recursive: true, force: true });
}, 120_000);

async function eventually<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (err) {
      if (tries >= 600) throw err;
      await new Promise((resolve) => {
        setTimeout(resolve, 100);
      });
    }
  }
}

const nodeArgs = (at: number, over: object = {}) => ({
  ...inventory.devices[at],
  device_index: at,
  gpu_identifier: 'h100_sxm',
  verification_host: '127.0.0.1',
  verification_port: Number(new URL(agent.url).port),
  ...over,
});
async function post(body: unknown, key: Hotkey = miner) {
  const text = JSON.stringify(body);
  const response = await fetch(`${api.url}/nodes/`, {
    method: 'POST',
    body: text,
    headers: { 'content-type': 'application/json', ...key.clientHeaders({ body: text }) },
  });
  return {
    status: response.status,
    body: parseExactJson(await response.text()) as {
      nodes: { uuid: string; seed: bigint | number; status: string }[];
      task_id: string;
      detail: string;
    },
  };
}
const signed = async (method: string, path: string, purpose: 'graval' | 'nodes', key: Hotkey = miner) => {
  const response = await fetch(`${api.url}${path}`, { method, headers: key.clientHeaders({ purpose }) });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
};
const statusOf = async (taskId: string) =>
  (await signed('GET', `/nodes/verification_status?task_id=${encodeURIComponent(taskId)}`, 'graval')).body;
const settled = (taskId: string) =>
  eventually(async () => {
    const status = await statusOf(taskId);
    if (status.status === 'pending') throw new Error('still pending');
    return status;
  });
const lifeOf = (at: number) =>
  built.deps.temporal.workflow.getHandle(nodeWorkflowId(inventory.devices[at]?.uuid ?? ''));
const clear = async () => {
  await database.knex('instance_nodes').delete();
  for (const row of await database.knex('nodes').select('uuid', 'miner_hotkey'))
    await signed('DELETE', `/nodes/${row.uuid as string}`, 'nodes');
};

test('two GPUs are announced, proven together by their agent, listed as idle, watched, and deleted', async () => {
  const answer = await post({ server_id: 'server-1', server_name: 'one', nodes: [nodeArgs(1), nodeArgs(0)] });
  expect(answer.status).toBe(202);
  expect(answer.body.nodes.map(({ uuid }) => uuid)).toEqual([inventory.devices[1]?.uuid, inventory.devices[0]?.uuid]);
  const [first, second] = answer.body.nodes;
  expect(first?.seed).toEqual(second?.seed);
  expect(BigInt(first?.seed ?? 0)).toBeGreaterThan(0n);
  expect(await settled(answer.body.task_id)).toEqual({ status: 'verified' });

  const rows = await database.knex('nodes').orderBy('uuid');
  for (const row of rows) {
    expect(row).toMatchObject({
      status: 'verified',
      trust_level: 'simulated',
      verification_error: null,
      server_id: 'server-1',
      proof_summary: {
        trustLevel: 'simulated',
        gpus: [{ gpuUuid: row.uuid as string, verified: true, samplesChecked: 32, bytesFilled: 64 ** 3 }],
      },
    });
  }
  const events = await database.knex('events').where({ channel: 'miner_broadcast' });
  expect(events.map(({ payload }: { payload: { data: object; reason: string } }) => payload)).toEqual(
    expect.arrayContaining(
      rows.map(({ uuid }) => ({
        reason: 'gpu_verified',
        data: { gpu_id: uuid as string, miner_hotkey: miner.address },
        filter_recipients: [miner.address],
      })),
    ),
  );
  expect(events).toHaveLength(2);
  expect(await (await fetch(`${api.url}/nodes/`)).json()).toEqual({ h100_sxm: { provisioned: 0, idle: 2 } });
  await eventually(async () => {
    for (const at of [0, 1])
      expect(await lifeOf(at).query(nodeStatus)).toMatchObject({ status: 'verified', attempts: 1 });
  });
  expect(sessions.size).toBe(0);

  const [row] = rows as { uuid: string; verified_at: Date }[];
  const at = inventory.devices.findIndex(({ uuid }) => uuid === row?.uuid);
  await lifeOf(at).signal(verifyNow);
  // What the schedule does: the sweep that was asked for begins, and takes the other idle GPU with it.
  await eventually(async () => {
    const due = { workflowId: `due-${randomUUID()}`, taskQueue: TASK_QUEUES.validator };
    const { started } = await environment.client.workflow.execute(dueSweeps, {
      ...due,
      args: [{ policy: nodePolicyOf(built.deps.config) }],
    });
    if (started !== 1) throw new Error('no miner is due yet');
  });
  const sweep = environment.client.workflow.getHandle(sweepWorkflowId(miner.address));
  expect(await sweep.result()).toMatchObject({ gpus: 2, groups: 1, verified: 2, failed: 0, lost: 0, unclear: 0 });
  await eventually(async () => {
    for (const again of (await database.knex('nodes')) as { verified_at: Date; sweep_id: string | null }[]) {
      expect(again.verified_at.getTime()).toBeGreaterThan(row?.verified_at.getTime() ?? Infinity);
      expect(again.sweep_id).toBeNull();
    }
  });
  expect(sessions.size).toBe(0);
  expect(await database.knex('events')).toHaveLength(2); // verified before: no second event

  expect((await post({ nodes: [nodeArgs(0)] })).status).toBe(409);
  const other = await insertMiner(built.deps.db);
  expect((await signed('DELETE', `/nodes/${row?.uuid ?? ''}`, 'nodes', other)).status).toBe(404);
  await bindInstance(row?.uuid ?? '');
  const refused = await signed('DELETE', `/nodes/${row?.uuid ?? ''}`, 'nodes');
  expect(refused).toMatchObject({ status: 409, body: { detail: expect.stringContaining(INSTANCE_ID) as unknown } });
  expect(await (await fetch(`${api.url}/nodes/?detailed=true`)).json()).toEqual({
    [miner.address]: {
      provisioned: [
        {
          gpu: 'h100_sxm',
          chute: {
            username: '[private]',
            name: '[private]',
            chute_id: '[private]',
            verified: true,
            instance_id: INSTANCE_ID,
          },
        },
      ],
      idle: { h100_sxm: 1 },
    },
  });
  await database.knex('instance_nodes').delete();
  for (const { uuid } of rows)
    expect(await signed('DELETE', `/nodes/${uuid as string}`, 'nodes')).toEqual({
      status: 200,
      body: { node_id: uuid as string, deleted: true },
    });
  expect((await signed('DELETE', `/nodes/${row?.uuid ?? ''}`, 'nodes')).status).toBe(404);
  expect(await database.knex('nodes')).toEqual([]);
  expect(await lifeOf(0).result()).toMatchObject({ status: 'deleted' });
  expect(await statusOf(answer.body.task_id)).toMatchObject({ status: 'error' });
}, 120_000);

test('an agent whose device is not the announced one fails the registration; a row without its workflow can be deleted', async () => {
  agentSees.name = 'NVIDIA GeForce RTX 4090';
  const { body } = await post({ nodes: [nodeArgs(0)] });
  expect(await settled(body.task_id)).toMatchObject({
    status: 'failed',
    detail: expect.stringContaining('not the announced device') as unknown,
  });
  agentSees.name = null;
  await lifeOf(0).terminate();
  await clear();
  expect(await database.knex('nodes')).toEqual([]);
}, 120_000);

test('an agent that never answers fails the registration once the grace is over', async () => {
  const silent = await listen(() => {});
  silent.close();
  const { body } = await post({ nodes: [nodeArgs(0, { verification_port: Number(new URL(silent.url).port) })] });
  expect(await settled(body.task_id)).toMatchObject({
    status: 'failed',
    detail: expect.stringContaining('cannot be reached') as unknown,
  });
}, 120_000);

test('two registrations of one GPU at once: one wins, the other is a conflict', async () => {
  const answers = await Promise.all([post({ nodes: [nodeArgs(0)] }), post({ nodes: [nodeArgs(0)] })]);
  expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([202, 409]);
  await settled(answers.find(({ status }) => status === 202)?.body.task_id ?? '');
}, 120_000);

test.each([
  ['an unknown gpu identifier', { gpu_identifier: 'h9000' }, 400],
  ['a clock the type cannot have', { clock_rate: 1 }, 400],
  ['a uuid with dashes', { uuid: randomUUID() }, 422],
  ['a port below 80', { verification_port: 79 }, 422],
  ['a device index past 9', { device_index: 10 }, 422],
  ['memory that is text', { memory: '80' }, 422],
])('%s: refused, nothing written', async (_, over, status) => {
  expect((await post({ nodes: [nodeArgs(0, over)] })).status).toBe(status);
  expect(await database.knex('nodes')).toEqual([]);
  expect(await database.knex('node_history').whereNull('removed_at')).toEqual([]);
});

test('eleven nodes, none, an unknown field, a stranger, a blacklisted miner, another caller’s task', async () => {
  const eleven = Array.from({ length: 11 }, (_, at) => nodeArgs(0, { uuid: at.toString(16).padStart(32, '0') }));
  expect((await post({ nodes: eleven })).status).toBe(400);
  expect((await post({ nodes: [] })).status).toBe(400);
  expect((await post({ nodes: [], surprise: 1 })).status).toBe(400);
  const stranger = await insertUser(built.deps.db);
  expect((await post({ nodes: [nodeArgs(0)] }, stranger.hotkey)).status).toBe(401);
  const banned = await insertMiner(built.deps.db, { blacklistReason: 'cheats' });
  expect([401, 403]).toContain((await post({ nodes: [nodeArgs(0)] }, banned)).status);
  expect((await signed('GET', `/nodes/verification_status?task_id=${banned.address}::x`, 'graval')).status).toBe(401);
  expect(await statusOf(`${miner.address}::skip`)).toEqual({ status: 'verified' });
});

test('a GPU that changed hotkeys too often is refused with 429', async () => {
  const uuid = 'd'.repeat(32);
  await database.knex('node_history').insert(['a', 'b', 'b'].map((hotkey) => ({ uuid, miner_hotkey: hotkey })));
  expect((await post({ nodes: [nodeArgs(0, { uuid })] })).status).toBe(429);
});

test('names that never hold together are public, the suspicious ones unless more are asked for', async () => {
  const pair = (broke: string, times: number) => ({
    broke,
    beside: 'card',
    broke_gpus: 8,
    beside_gpus: 8,
    times,
    last_sweep_id: 'x',
  });
  await database.knex('sweep_pairs').insert([pair('chance', 1), pair('alias', 3)]);
  const told = async (query: string): Promise<unknown> =>
    (await fetch(`${api.url}/nodes/never_together${query}`)).json();
  const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) as unknown;
  const alias = { broke: 'alias', beside: 'card', times: 3, first_at: time, last_at: time };
  expect(await told('')).toEqual([alias]);
  expect(await told('?at_least=1')).toEqual([alias, { ...alias, broke: 'chance', times: 1 }]);
  expect((await fetch(`${api.url}/nodes/never_together?at_least=0`)).status).toBe(422);
});

test('the supported GPUs are the table of the wire', async () => {
  const table = (await (await fetch(`${api.url}/nodes/supported`)).json()) as Record<string, object>;
  expect(Object.keys(table)).toEqual(GPU_TYPES.map(({ ref }) => ref));
  expect(table.h200).toEqual({
    model_name_check: ' H200',
    memory: 140,
    major: 9,
    minor: 0,
    tensor_cores: 528,
    concurrent_kernels: true,
    ecc: true,
    sxm: true,
    processors: 132,
    clock_rate: { base: 1590, boost: 1980 },
    max_threads_per_processor: 2048,
    hourly_rate: 2.75,
    graval: { iterations: 3, estimate: 70 },
  });
  expect(table.h20).not.toHaveProperty('major');
});

test('a type whose table row has no flags is accepted too', async () => {
  const type = gpuType('mi300x');
  if (!type) throw new Error('a type of the table');
  const { body, status } = await post({
    nodes: [nodeArgs(0, { ...plausibleDevice(type, 'e'.repeat(32)), gpu_identifier: 'mi300x' })],
  });
  expect(status).toBe(202);
  await settled(body.task_id);
}, 120_000);

const IMAGE = { context_key: 'k', context_sha256: 's', dockerfile_key: 'k', dockerfile_sha256: 's' };
const INSTANCE_ID = '11111111-1111-4111-8111-111111111111';
/** An instance of a private chute on the GPU, as rows. */
async function bindInstance(nodeUuid: string): Promise<void> {
  const { knex } = database;
  const { userId } = await insertUser(knex);
  const [imageId, chuteId, configId] = [randomUUID(), randomUUID(), randomUUID()];
  await knex('images').insert({
    image_id: imageId,
    user_id: userId,
    name: 'i',
    tag: 't',
    public: false,
    chutes_version: '0.6.9',
    status: 'built and pushed',
    ...IMAGE,
  });
  await knex('chutes').insert({
    chute_id: chuteId,
    user_id: userId,
    image_id: imageId,
    name: 'secret',
    slug: 's',
    version: randomUUID(),
    public: false,
    code: '',
    filename: 'f',
    ref_str: 'f:c',
    node_selector: '{}',
    chutes_version: '0.6.9',
  });
  await knex('launch_configs').insert({
    config_id: configId,
    instance_id: INSTANCE_ID,
    chute_id: chuteId,
    chute_version: randomUUID(),
    miner_hotkey: miner.address,
    miner_coldkey: 'c',
    miner_uid: 1,
    env_key: 'k',
    ephemeral_key_sealed: Buffer.alloc(1),
    ephemeral_public_key: 'p',
    expires_at: new Date(),
  });
  await knex('instances').insert({
    instance_id: INSTANCE_ID,
    config_id: configId,
    chute_id: chuteId,
    version: randomUUID(),
    miner_hotkey: miner.address,
    miner_coldkey: 'c',
    miner_uid: 1,
    host: 'h',
    port: 1,
    port_mappings: '[]',
    transport: 'canopy/1',
    gpu_count: 1,
    gpu_model_name: 'm',
    hourly_rate_micro_usd: 1,
    compute_multiplier: 1,
    chutes_version: '0.6.9',
    verified: true,
  });
  await knex('instance_nodes').insert({ node_uuid: nodeUuid, instance_id: INSTANCE_ID });
}
