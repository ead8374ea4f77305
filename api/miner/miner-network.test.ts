import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker } from '@temporalio/worker';
import { sha256Hex, verifySignature, type Hotkey } from '../../activities/clients/hotkey.ts';
import { createLogger } from '../../activities/clients/log.ts';
import type { ComputeDriver, ComputeState, CreateInput } from '../../activities/miner/compute/compute-driver.ts';
import { createDeploymentActivities } from '../../activities/miner/deployments/deployment-activities.ts';
import { MinerWorkflows } from '../../activities/miner/miner-workflows.ts';
import { createPolicyActivities } from '../../activities/miner/policy/policy-activities.ts';
import { createReconcileActivities } from '../../activities/miner/policy/reconcile-activities.ts';
import { createServerActivities } from '../../activities/miner/servers/server-activities.ts';
import {
  chuteItem,
  CHUTE_ID,
  device,
  gpuId,
  id,
  IMAGE_ID,
  minerStores,
  testHotkey,
  VALIDATOR,
  VERSION,
} from '../../activities/miner/testing.ts';
import { AgentClient } from '../../activities/miner/validator/agent-client.ts';
import { RemoteLists } from '../../activities/miner/validator/remote-lists.ts';
import { ValidatorClient } from '../../activities/miner/validator/validator-client.ts';
import { createTestDatabase } from '../../workers/testing/database.ts';
import { connectTestTemporal } from '../../workers/testing/workflow-environment.ts';
import { gepettoStatus } from '../../workflows/miner/policy/messages.ts';
import { createMinerApp } from './main.ts';
import { managementAuth } from './management-auth.ts';

/** A miner whole — API, worker, database, Temporal — against a validator and an agent that only speak the wire. */
const validatorSays = {
  requests: [] as string[],
  verification: 'pending',
  launchStatus: 200,
  instances: [] as Record<string, unknown>[],
  isAway: false,
};
const SEED = '9007199254740993'; // 2^53 + 1
let hotkey: Hotkey;
let stranger: Hotkey;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let env: TestWorkflowEnvironment;
let worker: Worker;
let working: Promise<void>;
let api: Server;
let apiUrl: string;
let fakeUrl: string;
let fake: Server;
let workflows: MinerWorkflows;
const running = new Map<string, CreateInput>();
const ended: string[] = [];
const settings = { stubDeadlineMs: 60_000, pollMs: 200 };
const gepetto = { autoscaleIntervalMs: 60_000, deployment: settings };
const reconcile = {
  intervalMs: 60_000,
  deployment: settings,
  rules: { ageGuardMs: 0, graceMs: 0, stubDeadlineMs: 60_000 },
};

const driver: ComputeDriver = {
  name: 'process',
  create: async (input) => {
    running.set(input.deploymentId, input);
    return { driver: 'podman', containerName: input.deploymentId };
  },
  inspect: async (deploymentId): Promise<ComputeState> => ({ state: running.has(deploymentId) ? 'running' : 'absent' }),
  list: async () => [...running.keys()].map((deploymentId) => ({ deploymentId, state: 'running', createdAtMs: 0 })),
  stop: async (deploymentId) => {
    if (running.delete(deploymentId)) ended.push(deploymentId);
  },
  logs: async () => '',
};

async function bodyOf(req: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of req) text += (chunk as Buffer).toString();
  return text;
}

/** Answers as the spec says, and refuses what is not signed as the spec says. */
async function answer(req: IncomingMessage): Promise<{ status: number; text: string }> {
  const url = new URL(req.url ?? '/', 'http://x');
  const key = `${req.method} ${url.pathname}`;
  const json = (value: unknown, status = 200) => ({ status, text: JSON.stringify(value) });
  const stream = (items: unknown[]) => ({
    status: 200,
    text: items.map((item) => `data: ${JSON.stringify(item)}\n\n`).join(''),
  });
  const body = await bodyOf(req);
  if (url.pathname === '/ping') return { status: 200, text: 'pong' };
  validatorSays.requests.push(key);
  if (validatorSays.isAway) return json({ detail: 'away' }, 503);
  const {
    'x-chutes-hotkey': key58,
    'x-chutes-nonce': nonce,
    'x-chutes-signature': signature,
  } = req.headers as Record<string, string>;
  const signs = (what: string) => verifySignature(`${hotkey.address}:${nonce}:${what}`, signature ?? '', key58 ?? '');
  const refused = json({ detail: `not signed: ${key}` }, 401);
  switch (key) {
    case 'GET /devices':
      return json({ devices: [device(0), device(1)] });
    case 'GET /status':
      return json({ cpus: 8, memoryGb: 64, simulated: true });
    case 'GET /nodes/supported':
      return json({ h100_sxm: {} });
    case 'POST /nodes/':
      if (!signs(sha256Hex(body))) return refused;
      return { status: 202, text: `{"task_id":"${hotkey.address}::t1","nodes":[{"seed":${SEED}},{"seed":${SEED}}]}` };
    case 'GET /nodes/verification_status':
      return signs('graval') ? json({ status: validatorSays.verification, error: 'the answer was wrong' }) : refused;
    case 'GET /chutes/utilization':
      return json([{ chute_id: CHUTE_ID, scalable: true, update_in_progress: false }]);
    case 'GET /chutes/rolling_updates':
      return json([]);
    case 'GET /miner/chutes/':
      return signs('miner') ? stream([chuteItem()]) : refused;
    case `GET /miner/chutes/${CHUTE_ID}/${VERSION}`:
      return signs('miner') ? json(chuteItem()) : refused;
    case 'GET /miner/images/':
      return stream([
        {
          image_id: IMAGE_ID,
          username: 'u',
          name: 'hello',
          tag: '1',
          artifact: {
            kind: 'archive',
            key: 'k',
            sha256: 'a'.repeat(64),
            sizeBytes: 1,
            command: ['python3', 'serve.py'],
            workingDir: '/',
            env: {},
          },
        },
      ]);
    case 'GET /miner/instances/':
      return validatorSays.instances.length > 0
        ? stream(validatorSays.instances)
        : { status: 200, text: 'data: NO_ITEMS\n\n' };
    case 'GET /instances/launch_config':
      if (!signs('launch')) return refused;
      return validatorSays.launchStatus === 200
        ? json({ token: 'a-launch-token', config_id: id(700) })
        : json({ detail: 'no' }, validatorSays.launchStatus);
    case `DELETE /instances/${CHUTE_ID}/${id(800)}`:
      validatorSays.instances = [];
      return signs('instances') ? json({ deleted: true }) : refused;
    case `DELETE /nodes/${gpuId(0)}`:
    case `DELETE /nodes/${gpuId(1)}`:
      return signs('nodes') ? json({ deleted: true }) : refused;
    default:
      return json({ detail: `unexpected ${key}` }, 404);
  }
}

beforeAll(async () => {
  [hotkey, stranger] = [await testHotkey('//Miner'), await testHotkey('//Stranger')];
  database = await createTestDatabase('miner');
  env = await connectTestTemporal('miner-test');
  fake = createServer((req, res) => void answer(req).then(({ status, text }) => res.writeHead(status).end(text)));
  fakeUrl = await listening(fake);
  const db = database.knex;
  const log = createLogger('miner-test', 'silent');
  const validator = new ValidatorClient({ baseUrl: fakeUrl, hotkey });
  const agent = new AgentClient({ hotkey });
  workflows = new MinerWorkflows(env.client);
  const { servers, remote, deployments } = minerStores(db);
  const lists = new RemoteLists({ validator, store: remote, freshMs: 0 });
  worker = await Worker.create({
    connection: env.nativeConnection,
    namespace: 'miner-test',
    taskQueue: 'miner',
    workflowsPath: new URL('../../workflows/miner.ts', import.meta.url).pathname,
    activities: {
      ...createDeploymentActivities({
        deployments,
        remote,
        lists,
        validator,
        driver,
        minerHotkey: hotkey.address,
        validatorHotkey: VALIDATOR,
      }),
      ...createPolicyActivities({ deployments, servers, remote, lists, workflows, minerHotkey: hotkey.address, log }),
      ...createReconcileActivities({ deployments, remote, lists, validator, driver, workflows, log }),
      ...createServerActivities({ servers, deployments, agent, validator, workflows, settings }),
    },
  });
  working = worker.run();
  const app = createMinerApp({
    db,
    hotkey,
    log,
    workflows,
    temporal: env.client,
    auth: managementAuth({ minerHotkey: hotkey.address }),
    validatorHotkey: VALIDATOR,
    settings,
    supportedGpuRefs: async () => ['h100_sxm'],
    agentAnswers: (url) => agent.answersPing(url),
    progressPollMs: 20,
  });
  api = createServer(app);
  apiUrl = await listening(api);
}, 60_000);

afterAll(async () => {
  for await (const execution of env.client.workflow.list({ query: "ExecutionStatus = 'Running'" })) {
    await env.client.workflow
      .getHandle(execution.workflowId)
      .terminate()
      .catch(() => {});
  }
  worker.shutdown();
  await working;
  for (const server of [api, fake]) {
    server.closeAllConnections();
    server.close();
  }
  await env.teardown();
  await database.drop();
}, 30_000);

async function listening(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const headersFor = (signed: Parameters<Hotkey['minerHeaders']>[1], key = hotkey, nonce?: string) =>
  key.minerHeaders({ miner: hotkey.address, validator: hotkey.address }, signed, nonce);
async function ask(method: string, path: string): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await fetch(`${apiUrl}${path}`, { method, headers: headersFor({ purpose: 'management' }) });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}
const addBody = (over: Record<string, unknown> = {}): string =>
  JSON.stringify({
    name: 'gpu-0',
    validator: VALIDATOR,
    hourly_cost: 1.5,
    gpu_short_ref: 'h100_sxm',
    agent_api: fakeUrl,
    ...over,
  });
const add = (body: string, signal?: AbortSignal) =>
  fetch(`${apiUrl}/servers/`, {
    method: 'POST',
    body,
    headers: { ...headersFor({ body }), 'content-type': 'application/json' },
    ...(signal ? { signal } : {}),
  });
const messagesOf = (text: string): string[] =>
  text
    .split('\n')
    .filter(Boolean)
    .map((line) => (JSON.parse(line.slice(6)) as { message: string }).message);

async function until<Value>(look: () => Promise<Value | null | undefined | false>): Promise<Value> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const value = await look();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`it did not become true: ${look.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
const held = async () => database.knex('gpus').whereNotNull('deployment_id');

test('only the miner’s own key opens the API, once per body, within 30 s either way', async () => {
  expect(await (await fetch(`${apiUrl}/ping`)).json()).toEqual({ message: 'pong' });
  const status = async (headers: Record<string, string>) => (await fetch(`${apiUrl}/servers/`, { headers })).status;
  const shifted = (seconds: number) => String(Math.floor(Date.now() / 1000) + seconds);
  expect(await status(headersFor({ purpose: 'management' }))).toBe(200);
  expect(await status({})).toBe(401);
  expect(await status(headersFor({ purpose: 'miner' }))).toBe(401);
  expect(await status(headersFor({ purpose: 'management' }, stranger))).toBe(401);
  expect(await status(headersFor({ purpose: 'management' }, hotkey, shifted(-31)))).toBe(401);
  expect(await status(headersFor({ purpose: 'management' }, hotkey, shifted(31)))).toBe(401);
  const refused = await fetch(`${apiUrl}/servers/`, { headers: headersFor({ purpose: 'miner' }) });
  expect(((await refused.json()) as { detail: string }).detail).toMatch(/^go away/);
  const body = addBody({ gpu_short_ref: 'abacus' });
  const headers = headersFor({ body });
  const post = () => fetch(`${apiUrl}/servers/`, { method: 'POST', body, headers });
  expect([(await post()).status, (await post()).status]).toEqual([400, 401]);
});

test.each<[string, Record<string, unknown>, number]>([
  ['no agent', { agent_api: null }, 400],
  ['another validator', { validator: hotkeyLike() }, 400],
  ['an unknown GPU', { name: 'gpu-9', gpu_short_ref: 'abacus' }, 400],
  ['a silent agent', { agent_api: 'http://127.0.0.1:1' }, 502],
  ['no name', { name: undefined }, 422],
  ['a cost that is none', { hourly_cost: 'cheap' }, 422],
])('add-node refuses %s', async (_, over, status) => {
  expect((await add(addBody(over))).status).toBe(status);
});
function hotkeyLike(): string {
  return '5DAAnrj7VHTznn2AWBemMuyBwZWs6FNFjdyVXUeYum3PTXFy';
}

test('add-node: who leaves takes nothing along, who comes second sees it all, and a third is told it is there', async () => {
  const leaving = new AbortController();
  const first = await add(addBody(), leaving.signal);
  expect(first.status).toBe(200);
  await until(async () => validatorSays.requests.includes('GET /nodes/verification_status'));
  leaving.abort();
  const second = await add(addBody({ hourly_cost: 1.25 }));
  const text = second.text();
  validatorSays.verification = 'verified';
  const messages = messagesOf(await text);
  expect(messages[0]).toContain('attempting to add node gpu-0');
  expect(messages.at(-1)).toContain('completed server bootstrapping');
  expect((await text).split('\n')[0]).toMatch(/^data: \{"timestamp":"\d{4}-\d\d-\d\dT[\d:.]+","message":".*"\}$/);
  const third = await add(addBody());
  expect(third.status).toBe(409);
  const [server] = (await (
    await fetch(`${apiUrl}/servers/`, { headers: headersFor({ purpose: 'management' }) })
  ).json()) as Record<string, unknown>[];
  expect(server).toMatchObject({
    name: 'gpu-0',
    status: 'Ready',
    gpu_count: 2,
    cpu_per_gpu: 3,
    memory_per_gpu: 23,
    labels: { simulated: 'true' },
    hourly_cost: 1.5,
    locked: false,
    gpus: [{ verified: true }, { verified: true }],
  });
  expect(JSON.stringify(server)).not.toContain(SEED);
  expect((await database.knex.raw('select seed::text from servers')).rows).toEqual([{ seed: SEED }]);
}, 60_000);

test('an announced chute is launched, learns of its instance, and is active; the token is in no history', async () => {
  await workflows.ensurePolicy(gepetto, reconcile);
  await workflows.hear(
    { reason: 'chute_created', data: { chute_id: CHUTE_ID, version: VERSION, job_only: false } },
    gepetto,
  );
  await workflows.hear(
    { reason: 'chute_created', data: { chute_id: CHUTE_ID, version: VERSION, job_only: false } },
    gepetto,
  );
  const input = await until(async () => [...running.values()][0]);
  expect(running.size).toBe(1);
  expect(input.env).toMatchObject({
    CHUTES_LAUNCH_JWT: 'a-launch-token',
    CHUTES_EXTERNAL_HOST: '127.0.0.1',
    CANOPY_COMMAND: '["python3","serve.py"]',
  });
  expect(input.env.NVIDIA_VISIBLE_DEVICES.split(',')).toEqual([
    'GPU-00000000-0000-0000-0000-000000000000',
    'GPU-00000000-0000-0000-0000-000000000001',
  ]);
  validatorSays.instances = [
    {
      instance_id: id(800),
      chute_id: CHUTE_ID,
      config_id: id(700),
      active: true,
      last_verified_at: '2026-01-01T00:00:00',
    },
  ];
  await until(async () =>
    database
      .knex('deployments')
      .where({ status: 'active', instance_id: id(800) })
      .first(),
  );
  const history = JSON.stringify(
    await env.client.workflow.getHandle(`deployment/${input.deploymentId}`).fetchHistory(),
  );
  const payloads = [...history.matchAll(/"data":\{"type":"Buffer","data":\[([\d,]+)\]/g)].map((match) =>
    Buffer.from((match[1] ?? '').split(',').map(Number)).toString(),
  );
  expect(`${history}${payloads.join()}`).not.toContain('a-launch-token');
}, 60_000);

test('locked servers say so; a purge ends the deployment at the validator first, then frees its GPUs', async () => {
  expect(await ask('GET', '/servers/gpu-0/lock')).toMatchObject({ status: 200, body: { locked: true } });
  expect(await ask('GET', '/servers/nowhere/lock')).toMatchObject({ status: 404 });
  expect(await ask('GET', '/servers/gpu-0/delete_preflight')).toEqual({ status: 200, body: { jobs: [] } });
  expect(await ask('DELETE', `/deployments/${id(1)}`)).toMatchObject({ status: 404 });
  expect(await ask('DELETE', '/servers/nowhere/deployments')).toEqual({
    status: 200,
    body: { status: 'initiated', deployments_purged: [] },
  });
  const purged = await ask('DELETE', '/deployments/purge');
  expect(purged.body).toMatchObject({
    status: 'initiated',
    deployments_purged: [{ chute_id: CHUTE_ID, chute_name: 'hello', server_name: 'gpu-0', gpu_count: 2 }],
  });
  await until(async () => (await held()).length === 0);
  expect(validatorSays.requests).toContain(`DELETE /instances/${CHUTE_ID}/${id(800)}`);
  expect(running.size).toBe(0);
  expect(await database.knex('deployment_audit').first()).toMatchObject({
    removal_code: 'operator_requested',
    instance_id: id(800),
  });
}, 60_000);

test('423: nothing is reserved afterwards, and the chute is left alone for a while', async () => {
  validatorSays.launchStatus = 423;
  validatorSays.requests = [];
  expect(await ask('GET', '/servers/gpu-0/unlock')).toMatchObject({ status: 200, body: { locked: false } });
  await until(async () => validatorSays.requests.includes('GET /instances/launch_config'));
  await until(async () => (await database.knex('deployments')).length === 0 && (await held()).length === 0);
  const state = await until(async () => {
    const { refusals } = await env.client.workflow.getHandle('gepetto').query(gepettoStatus);
    return refusals[CHUTE_ID];
  });
  expect(state.retryAtMs).toBeGreaterThan(Date.now());
  expect(ended).toHaveLength(1); // only the one that ran before
}, 60_000);

test('reconcile removes what no row knows, but nothing while it cannot see', async () => {
  validatorSays.isAway = true;
  running.set(id(55), {} as CreateInput);
  await workflows.ensurePolicy(gepetto, reconcile);
  await until(async () => !running.has(id(55))); // an orphan on this host needs no validator to be one
  expect(await database.knex('servers')).toHaveLength(1);
  expect(await database.knex('chutes')).toHaveLength(1);
  validatorSays.isAway = false;
}, 60_000);

test('removal drains, withdraws the GPUs from the validator, and forgets the server', async () => {
  expect(await ask('DELETE', '/servers/gpu-0')).toMatchObject({ status: 200, body: { status: 'started' } });
  await until(async () => (await database.knex('servers')).length === 0);
  expect(validatorSays.requests).toEqual(
    expect.arrayContaining([`DELETE /nodes/${gpuId(0)}`, `DELETE /nodes/${gpuId(1)}`]),
  );
}, 60_000);

test('a server the validator does not believe is undone, and says why', async () => {
  validatorSays.verification = 'error';
  const messages = messagesOf(await (await add(addBody({ name: 'gpu-1' }))).text());
  expect(messages.at(-1)).toContain('the answer was wrong');
  await until(async () => (await database.knex('servers')).length === 0);
  validatorSays.verification = 'verified';
  expect(messagesOf(await (await add(addBody({ name: 'gpu-1', hourly_cost: 2 }))).text()).at(-1)).toContain(
    'completed server bootstrapping',
  );
}, 60_000);
