import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import { createTestDatabase } from '../../workers/testing/database.ts';
import { createLogger } from '../clients/log.ts';
import type { ComputeDriver } from './compute/compute-driver.ts';
import { createDeploymentActivities } from './deployments/deployment-activities.ts';
import type { MinerWorkflows } from './miner-workflows.ts';
import { createPolicyActivities } from './policy/policy-activities.ts';
import { createReconcileActivities } from './policy/reconcile-activities.ts';
import { createServerActivities } from './servers/server-activities.ts';
import {
  chuteItem,
  CHUTE_ID,
  device,
  gpuId,
  id,
  IMAGE_ID,
  seedInventory,
  SERVER_ID,
  VALIDATOR,
  VERSION,
} from './testing.ts';
import type { AgentClient } from './validator/agent-client.ts';
import { RemoteLists } from './validator/remote-lists.ts';
import { parseEventStream, type Answer, type ValidatorClient } from './validator/validator-client.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let all: Awaited<ReturnType<typeof build>>;
beforeAll(async () => void (database = await createTestDatabase('miner')));
afterAll(() => database.drop());
beforeEach(async () => void (all = await build()));
afterEach(() =>
  database.knex.raw('truncate servers, chutes, images, deployments, gpus, deployment_audit, remote_instances cascade'),
);

/** The outside keeps what was done to it by its natural key, as the real one does. */
async function build() {
  const stores = await seedInventory(database.knex);
  const outside = {
    configs: 0,
    nodes: new Set<string>(),
    processes: new Map<string, string>(),
    started: new Set<string>(),
    stopped: new Set<string>(),
  };
  const ok = (body: unknown, status = 200): Answer => ({ status, body });
  const validator = {
    ask: async (method: string, path: string): Promise<Answer> => {
      if (path === '/instances/launch_config')
        return ok({ token: 'a-launch-token', config_id: id(700 + outside.configs++) });
      if (path.startsWith(`/miner/chutes/`)) return ok(chuteItem({ name: 'imported' }));
      if (path === '/nodes/verification_status') return ok({ status: 'verified' });
      if (method === 'DELETE' && path.startsWith('/nodes/'))
        return outside.nodes.delete(path.slice(7)) ? ok({}) : ok({ detail: 'none' }, 404);
      return ok({ detail: 'none' }, 404);
    },
    post: async (_path: string, body: unknown): Promise<Answer> => {
      const { nodes } = body as { nodes: { uuid: string }[] };
      if (nodes.some(({ uuid }) => outside.nodes.has(uuid))) return ok({ detail: 'known' }, 409);
      for (const { uuid } of nodes) outside.nodes.add(uuid);
      return ok({ task_id: 'me::t1', nodes: nodes.map(() => ({ seed: '9007199254740993' })) }, 202);
    },
    list: async (path: string) => {
      if (path === '/miner/nodes/') return [...outside.nodes].map((uuid) => ({ uuid, task_id: 'me::t1' }));
      if (path === '/miner/images/')
        return [
          {
            image_id: IMAGE_ID,
            username: 'u',
            name: 'n',
            tag: 't',
            artifact: {
              kind: 'archive',
              key: 'k',
              sha256: 'a'.repeat(64),
              sizeBytes: 1,
              command: [],
              workingDir: '/',
              env: {},
            },
          },
        ];
      return path === '/miner/chutes/' ? [chuteItem()] : [];
    },
  } as unknown as ValidatorClient;
  const driver: ComputeDriver = {
    name: 'process',
    create: async ({ deploymentId, env }) => {
      outside.processes.set(deploymentId, env.CHUTES_LAUNCH_JWT);
      return { driver: 'podman', containerName: deploymentId };
    },
    inspect: async (deploymentId) => ({ state: outside.processes.has(deploymentId) ? 'running' : 'absent' }),
    list: async () =>
      [...outside.processes.keys()].map((deploymentId) => ({ deploymentId, state: 'running', createdAtMs: 0 })),
    stop: async (deploymentId) => void outside.processes.delete(deploymentId),
    logs: async () => '',
  };
  const workflows = {
    startDeployment: async ({ deploymentId }: { deploymentId: string }) => void outside.started.add(deploymentId),
    stopDeployment: async ({ deploymentId }: { deploymentId: string }) => void outside.stopped.add(deploymentId),
    tellDeployment: async () => false,
  } as unknown as MinerWorkflows;
  const agent = {
    inventory: async () => ({ devices: [device(7)], host: null, isSimulated: true }),
    answersPing: async () => true,
  } as unknown as AgentClient;
  const lists = new RemoteLists({ validator, store: stores.remote, freshMs: 0 });
  const log = createLogger('test', 'silent');
  const common = {
    ...stores,
    lists,
    validator,
    driver,
    workflows,
    minerHotkey: 'me',
    validatorHotkey: VALIDATOR,
    log,
    agent,
    settings,
  };
  const activities = {
    ...createDeploymentActivities(common),
    ...createPolicyActivities(common),
    ...createReconcileActivities(common),
    ...createServerActivities(common),
  };
  return { outside, activities, stores };
}
const settings = { stubDeadlineMs: 1000, pollMs: 100 };
type Activities = typeof all.activities;

async function state(): Promise<unknown> {
  const tables = ['servers', 'gpus', 'chutes', 'images', 'deployments', 'deployment_audit', 'remote_instances'];
  const rows = await Promise.all(tables.map((table) => database.knex(table).orderBy(1)));
  const { configs, nodes, processes, started, stopped } = all.outside;
  return JSON.parse(
    JSON.stringify(
      { rows, configs, nodes: [...nodes], processes: [...processes], started: [...started], stopped: [...stopped] },
      (key, value: unknown) => (['updated_at', 'last_seen_at', 'missing_since'].includes(key) ? undefined : value),
    ),
  ) as unknown;
}

const d1 = { deploymentId: id(1) };
const reserved = (a: Activities) => a.reserve({ ...d1, chuteId: CHUTE_ID, version: VERSION, onlyServerId: null });
const permitted = async (a: Activities): Promise<void> => {
  await reserved(a);
  await a.requestLaunch(d1);
};
const created = async (a: Activities): Promise<void> => {
  await permitted(a);
  await a.createInstance(d1);
};
const server = { serverId: SERVER_ID };
const newServer = {
  serverId: id(60),
  name: 'gpu-7',
  validator: VALIDATOR,
  agentUrl: 'http://127.0.0.1:1',
  gpuShortRef: 'h100_sxm',
  hourlyCostMicroUsd: 1,
};
const planned = (reaction: Parameters<Activities['carryOut']>[0]['planned'][number]['reaction']) => ({
  planned: [{ reaction, newDeploymentId: id(2) }],
  settings,
});
const nothing = async () => {};

test.each<[string, (a: Activities) => Promise<unknown>, (a: Activities) => Promise<unknown>]>([
  ['reserve', nothing, reserved],
  ['requestLaunch', reserved, (a) => a.requestLaunch(d1)],
  ['createInstance', permitted, (a) => a.createInstance(d1)],
  ['observe', created, (a) => a.observe(d1)],
  ['recordFact', created, (a) => a.recordFact({ ...d1, fact: 'activated', instanceId: id(800) })],
  ['markTerminating', created, (a) => a.markTerminating({ ...d1, code: 'operator_requested' })],
  ['deleteRemoteInstance', created, (a) => a.deleteRemoteInstance(d1)],
  ['stopInstance', created, (a) => a.stopInstance(d1)],
  ['forgetDeployment', created, (a) => a.forgetDeployment(d1)],
  [
    'carryOut start',
    nothing,
    (a) => a.carryOut(planned({ kind: 'start', chuteId: CHUTE_ID, version: VERSION, onlyServerId: null })),
  ],
  [
    'carryOut import',
    nothing,
    (a) => a.carryOut(planned({ kind: 'import_chute', chuteId: CHUTE_ID, version: VERSION })),
  ],
  ['carryOut images', nothing, (a) => a.carryOut(planned({ kind: 'import_images' }))],
  [
    'carryOut forget',
    nothing,
    (a) => a.carryOut(planned({ kind: 'forget_chute', chuteId: CHUTE_ID, version: VERSION })),
  ],
  ['carryOut stop', created, (a) => a.carryOut(planned({ kind: 'stop', deploymentId: id(1), code: 'chute_deleted' }))],
  [
    'carryOut fact',
    created,
    (a) => a.carryOut(planned({ kind: 'instance_fact', deploymentId: id(1), fact: 'bound', instanceId: id(800) })),
  ],
  ['carryOut gpu', nothing, (a) => a.carryOut(planned({ kind: 'mark_gpu_verified', gpuId: gpuId(0) }))],
  ['planScaleUp', nothing, (a) => a.planScaleUp({ retryAtMs: {}, pendingChuteIds: [], mustRefresh: true, limit: 1 })],
  ['planCorrections', created, (a) => a.planCorrections({ ageGuardMs: 0, graceMs: 0, stubDeadlineMs: 1000 })],
  [
    'applyCorrection object',
    created,
    (a) => a.applyCorrection({ action: { kind: 'remove_object', deploymentId: id(9), evidence: '' }, settings }),
  ],
  [
    'applyCorrection stop',
    created,
    (a) =>
      a.applyCorrection({
        action: { kind: 'stop', deploymentId: id(1), code: 'process_gone', evidence: '' },
        settings,
      }),
  ],
  [
    'applyCorrection note',
    created,
    (a) => a.applyCorrection({ action: { kind: 'note_missing', deploymentId: id(1), what: 'process' }, settings }),
  ],
  ['trackServer', nothing, (a) => a.trackServer(newServer)],
  ['advertise', (a) => a.trackServer(newServer), (a) => a.advertise({ serverId: id(60) })],
  [
    'advertise, its answer lost',
    async (a) => {
      await a.trackServer(newServer);
      await a.advertise({ serverId: id(60) });
      await database
        .knex('servers')
        .where({ server_id: id(60) })
        .update({ task_id: null });
    },
    (a) => a.advertise({ serverId: id(60) }),
  ],
  ['markVerified', nothing, (a) => a.markVerified(server)],
  ['lockServer', nothing, (a) => a.lockServer({ ...server, locked: true })],
  ['recordHealth', nothing, (a) => a.recordHealth(server)],
  ['beginRemoval', nothing, (a) => a.beginRemoval(server)],
  ['drainServer', created, (a) => a.drainServer(server)],
  ['withdraw', nothing, (a) => a.withdraw(server)],
  ['forgetServer', nothing, (a) => a.forgetServer(server)],
])('%s, run twice, leaves the state of once', async (_, before, activity) => {
  const context = new MockActivityEnvironment();
  await context.run(() => before(all.activities));
  const first = await context.run(() => activity(all.activities));
  const once = await state();
  expect(await context.run(() => activity(all.activities))).toEqual(first);
  expect(await state()).toEqual(once);
});

test('an object whose row appeared meanwhile is not removed', async () => {
  const context = new MockActivityEnvironment();
  await context.run(() => created(all.activities));
  await context.run(() =>
    all.activities.applyCorrection({ action: { kind: 'remove_object', deploymentId: id(1), evidence: '' }, settings }),
  );
  expect(all.outside.processes.has(id(1))).toBe(true);
});

test('a server of other GPUs than it was said to have is refused', async () => {
  const answer = await all.activities.trackServer({ ...newServer, gpuShortRef: 'b200' });
  expect(answer).toEqual({ kind: 'refused', why: 'not a b200: NVIDIA H100 80GB HBM3' });
});

test.each([
  ['', null],
  ['data: NO_ITEMS\n\n', []],
  ['data: {"a":1}\n\n: comment\ndata: {"seed":9007199254740993}\n\n', [{ a: 1 }, { seed: '9007199254740993' }]],
])('a list is only empty when it says so: %j', (text, items) => expect(parseEventStream(text)).toEqual(items));
