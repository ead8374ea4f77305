import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { createServer, type RequestListener, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { challengedIndex, deviceInfoAnswer } from '../../../workflows/domain/nodes/device-info.ts';
import type { AnnouncedNode } from '../../../workflows/domain/nodes/node-rules.ts';
import type { ProofSummary } from '../../../workflows/domain/proof/plugin.ts';
import type { ProvableNode } from '../../../workflows/validator/nodes/messages.ts';
import { loadHotkey } from '../../clients/hotkey.ts';
import { whyHostRefused } from './check-host.ts';
import { createNodeActivities, type NodeActivities } from './node-activities.ts';
import { fullTaskId } from './node-tasks.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let activities: NodeActivities;
let strict: NodeActivities;
const stored = new Map<string, string>();
let server: Server;
let answer: RequestListener;

beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  database = await createTestDatabase('validator');
  const blobs = {
    put: async (key: string, body: Uint8Array | string) => {
      stored.set(key, Buffer.from(body).toString('utf8'));
      return { key, sha256: '', sizeBytes: body.length };
    },
  };
  const deps = { db: database.knex, blobs, hotkey: await loadHotkey('07'.repeat(32)) };
  activities = createNodeActivities({ ...deps, config: { CANOPY_ALLOW_PRIVATE_HOSTS: true } });
  strict = createNodeActivities({ ...deps, config: { CANOPY_ALLOW_PRIVATE_HOSTS: false } });
  server = createServer((req, res) => answer(req, res)).listen(0, '127.0.0.1');
  await once(server, 'listening');
}, 60_000);
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await database.drop();
}, 60_000);
beforeEach(() => stored.clear());
afterEach(async () => {
  for (const table of ['events', 'nodes', 'node_history']) await database.knex(table).delete();
});

const uuidOf = (): string => randomBytes(16).toString('hex');
const announced = (over: Partial<AnnouncedNode> = {}): AnnouncedNode => ({
  uuid: uuidOf(),
  name: 'NVIDIA H100 80GB HBM3',
  memory: 85_899_345_920,
  major: 1,
  minor: 1,
  processors: 132,
  sxm: null,
  clockRate: 1_980_000,
  maxThreadsPerProcessor: 2048,
  concurrentKernels: null,
  ecc: null,
  deviceIndex: 0,
  gpuIdentifier: 'H100_SXM',
  verificationHost: '127.0.0.1',
  verificationPort: (server.address() as AddressInfo).port,
  ...over,
});
const provable = (node: AnnouncedNode): ProvableNode => ({
  uuid: node.uuid,
  gpuType: 'h100_sxm',
  vramBytes: 80e9,
  name: node.name,
  memory: node.memory,
  clockRate: node.clockRate,
  deviceIndex: node.deviceIndex,
  host: node.verificationHost,
  port: node.verificationPort,
});
const registration = (nodes: AnnouncedNode[]) => ({
  taskId: randomUUID(),
  minerHotkey: 'miner',
  serverId: 's',
  serverName: null,
  receivedAtMs: 0,
  nodes,
});
const summary = (uuids: string[]): ProofSummary => ({
  trustLevel: 'simulated',
  fillMs: 1,
  walkMs: 2,
  gpus: uuids.map((gpuUuid) => ({ gpuUuid, bytesFilled: 1, samplesChecked: 32, verified: true, reason: null })),
});
const run = <In, Out>(activity: (input: In) => Promise<Out>, input: In): Promise<Out> =>
  new MockActivityEnvironment().run(activity, input);
const rows = () => database.knex('nodes').orderBy('uuid');

test('each activity that writes leaves the same state when it runs twice', async () => {
  const request = registration([announced(), announced({ deviceIndex: 1 })]);
  const uuids = request.nodes.map(({ uuid }) => uuid);
  const { taskId, minerHotkey } = request;
  const everything = async () =>
    JSON.stringify([
      await rows(),
      await database.knex('node_history').orderBy('uuid'),
      await database.knex('events').orderBy('seq').select('payload'),
    ]).replaceAll(/"verified_at":"[^"]+"/g, '"verified_at":"then"');
  const steps: [string, () => Promise<unknown>][] = [
    ['insertNodes', () => activities.insertNodes(request)],
    ['recordNodesChallenged', () => activities.recordNodesChallenged({ taskId, minerHotkey, uuids })],
    [
      'recordNodesVerified',
      () => activities.recordNodesVerified({ taskId, minerHotkey, uuids, summary: summary(uuids) }),
    ],
    [
      'recordNodesFailed as lost',
      () =>
        activities.recordNodesFailed({ taskId, minerHotkey, uuids, status: 'lost', error: 'silent', summary: null }),
    ],
    [
      'recordNodesFailed',
      () =>
        activities.recordNodesFailed({ taskId, minerHotkey, uuids, status: 'failed', error: 'wrong', summary: null }),
    ],
    ['forgetNode', () => activities.forgetNode({ uuid: uuids[0] ?? '', minerHotkey, by: minerHotkey })],
  ];
  for (const [name, step] of steps) {
    const first = await step();
    const state = await everything();
    expect({ name, again: await step(), state: await everything() }).toEqual({ name, again: first, state });
  }
});

test('rows carry the table’s flags, one seed past 2^53 for the batch, and history', async () => {
  const request = registration([announced(), announced({ deviceIndex: 1 })]);
  const nodes = await activities.insertNodes(request);
  expect(nodes).toMatchObject([{ gpuType: 'h100_sxm', vramBytes: 80e9 }, { deviceIndex: 1 }]);
  const [one, two] = await rows();
  expect(one).toMatchObject({
    major: 9,
    minor: 0,
    sxm: true,
    ecc: true,
    gpu_identifier: 'h100_sxm',
    status: 'announced',
    task_id: fullTaskId('miner', request.taskId),
  });
  expect(one.seed).toBe(two.seed);
  expect(await database.knex('node_history')).toHaveLength(2);
});

test('an event for each GPU when it becomes verified, none when it is verified again, one again after it was lost', async () => {
  const request = registration([announced()]);
  const { taskId, minerHotkey } = request;
  const uuids = request.nodes.map(({ uuid }) => uuid);
  await activities.insertNodes(request);
  const verified = () => activities.recordNodesVerified({ taskId, minerHotkey, uuids, summary: summary(uuids) });
  const events = async () => (await database.knex('events')).length;
  await verified();
  await verified();
  expect(await events()).toBe(1);
  await activities.recordNodesFailed({ taskId, minerHotkey, uuids, status: 'lost', error: 'silent', summary: null });
  expect((await rows())[0]).toMatchObject({
    status: 'lost',
    verification_error: 'silent',
    verified_at: expect.any(Date) as unknown,
  });
  await verified();
  expect(await events()).toBe(2);
  const refused: ProofSummary = { ...summary(uuids), trustLevel: 'none' };
  await activities.recordNodesFailed({
    taskId,
    minerHotkey,
    uuids,
    status: 'failed',
    error: 'wrong',
    summary: refused,
  });
  expect((await rows())[0]).toMatchObject({
    status: 'failed',
    verified_at: null,
    trust_level: 'none',
    proof_summary: { trustLevel: 'none' }, // its file is the evidence
  });
});

test('what one registration records never touches the rows of a later one', async () => {
  const request = registration([announced()]);
  const uuids = request.nodes.map(({ uuid }) => uuid);
  await activities.insertNodes(request);
  const stale = { taskId: randomUUID(), minerHotkey: 'miner', uuids };
  await activities.recordNodesVerified({ ...stale, summary: summary(uuids) });
  await activities.recordNodesFailed({ ...stale, status: 'failed', error: 'x', summary: null });
  expect((await rows())[0]).toMatchObject({ status: 'announced' });
  expect(await run((given) => activities.lookUpNode(given), { ...stale, uuid: uuids[0] ?? '' })).toEqual({
    status: 'gone',
    instanceId: null,
  });
});

test('present, hopping, private host, device: refused in that order, and nothing is written', async () => {
  const first = announced();
  await activities.insertNodes(registration([first]));
  const broken = { clockRate: 1, verificationHost: '10.0.0.1' };
  await expect(strict.insertNodes(registration([{ ...first, ...broken }]))).rejects.toMatchObject({
    code: 'resource.conflict',
  });
  const hopper = announced(broken);
  await database
    .knex('node_history')
    .insert(['a', 'b', 'b'].map((hotkey) => ({ uuid: hopper.uuid, miner_hotkey: hotkey })));
  await expect(strict.insertNodes(registration([hopper]))).rejects.toMatchObject({ code: 'rate.limited' });
  await expect(strict.insertNodes(registration([announced(broken)]))).rejects.toMatchObject({
    code: 'request.invalid',
    message: expect.stringContaining('not a public address') as unknown,
  });
  await expect(activities.insertNodes(registration([announced(broken)]))).rejects.toMatchObject({
    code: 'request.invalid',
    message: expect.stringContaining('clock') as unknown,
  });
  expect(await rows()).toHaveLength(1);
});

test('a type that this network cannot prove is refused before anything is written, with what helps', async () => {
  const picky = createNodeActivities({
    db: database.knex,
    blobs: { put: async () => ({ key: '', sha256: '', sizeBytes: 0 }) },
    hotkey: await loadHotkey('07'.repeat(32)),
    config: { CANOPY_ALLOW_PRIVATE_HOSTS: true },
    whyNotProvable: (type) => (type === 'h100_sxm' ? 'measure a card with: npm run calibrate:gpu' : null),
  });
  await expect(picky.insertNodes(registration([announced()]))).rejects.toMatchObject({
    code: 'request.invalid',
    message: expect.stringContaining('calibrate') as unknown,
  });
  expect(await rows()).toEqual([]);
});

test('two writers at once: one batch is there, the other left nothing', async () => {
  const shared = announced();
  const results = await Promise.allSettled(
    [announced(), announced()].map((own) => activities.insertNodes(registration([own, shared]))),
  );
  expect(results.map(({ status }) => status).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(['fulfilled', 'rejected']);
  expect(await rows()).toHaveLength(2);
});

test('only who registered a GPU can take it out', async () => {
  const request = registration([announced()]);
  await activities.insertNodes(request);
  const uuid = request.nodes[0]?.uuid ?? '';
  await expect(activities.forgetNode({ uuid, minerHotkey: 'miner', by: 'another' })).rejects.toMatchObject({
    code: 'resource.not_found',
  });
  expect(await rows()).toHaveLength(1);
});

test.each([
  ['public', [{ address: '8.8.8.8' }], null],
  ['public and private', [{ address: '8.8.8.8' }, { address: '10.0.0.1' }], /public addresses only/],
  ['nothing', [], /does not resolve/],
])('a name that resolves to %s', async (_, addresses, why) => {
  const refused = await whyHostRefused('gpu.example.com', async () =>
    addresses.map((each) => ({ ...each, family: 4 })),
  );
  if (why) expect(refused).toMatch(why);
  else expect(refused).toBeNull();
});
test.each(['a b', '-x.com', 'http://x', 'x_y', ''])('%j is not a host name', async (host) =>
  expect(await whyHostRefused(host, async () => [])).toMatch('not a host name'),
);

const info =
  (over: { clock_rate?: number } = {}): RequestListener =>
  (req, res) => {
    const challenge = new URL(req.url ?? '', 'http://x').searchParams.get('challenge') ?? '';
    const devices = agentDevices.map((node) => ({
      uuid: node.uuid,
      name: node.name,
      memory: node.memory,
      clock_rate: over.clock_rate ?? node.clockRate,
    }));
    const device = devices[challengedIndex(challenge, devices.length)];
    res.end(device ? deviceInfoAnswer(challenge, device) : '');
  };
let agentDevices: AnnouncedNode[] = [];

test('device info: the announced devices pass, others do not, silence is silence', async () => {
  agentDevices = [announced(), announced({ deviceIndex: 1 })];
  const input = { nodes: agentDevices.map(provable), minerHotkey: 'miner' };
  answer = info();
  expect(await run((given) => activities.askDeviceInfo(given), input)).toMatchObject({ kind: 'answered' });
  expect(
    await run((given) => activities.askDeviceInfo(given), { ...input, nodes: input.nodes.slice(1) }),
  ).toMatchObject({
    kind: 'answered',
  }); // one of the agent's two
  answer = info({ clock_rate: 1 });
  expect(await run((given) => activities.askDeviceInfo(given), input)).toMatchObject({ kind: 'refused' });
  answer = (_req, res) => void res.writeHead(503).end();
  expect(await run((given) => activities.askDeviceInfo(given), input)).toMatchObject({ kind: 'silent' });
});

const on = () => {
  const node = announced();
  return { nodes: [provable(node)], minerHotkey: 'miner', session: 's', uuid: node.uuid };
};
test.each<[string, (uuid: string) => RequestListener, string]>([
  ['roots', (uuid) => (_req, res) => void res.end(JSON.stringify({ roots: { [uuid]: 'r', other: 'x' } })), 'answered'],
  ['no root of its GPU', () => (_req, res) => void res.end(JSON.stringify({ roots: {} })), 'refused'],
  ['text', () => (_req, res) => void res.end('hello'), 'refused'],
  ['null', () => (_req, res) => void res.end('null'), 'refused'],
  ['numbers', (uuid) => (_req, res) => void res.end(JSON.stringify({ roots: { [uuid]: 1 } })), 'refused'],
  ['too much', () => (_req, res) => void res.end('x'.repeat(100_000)), 'refused'],
  ['401', () => (_req, res) => void res.writeHead(401).end(), 'refused'],
  [
    'a redirect',
    () => (_req, res) => void res.writeHead(302, { location: 'http://169.254.169.254/' }).end(),
    'refused',
  ],
  ['503', () => (_req, res) => void res.writeHead(503).end(), 'silent'],
  ['nothing in time', () => () => {}, 'silent'],
  ['half an answer', () => (_req, res) => void res.writeHead(200, { 'content-length': '10' }).write('x'), 'silent'],
  ['a closed connection', () => (req) => void req.socket.destroy(), 'silent'],
])('an agent that answers a commit with %s', async (_, listener, kind) => {
  const { uuid, ...input } = on();
  answer = listener(uuid);
  const result = await run((given) => activities.commitOnAgent(given), { ...input, challenges: [], withinMs: 500 });
  expect(result.kind).toBe(kind);
  if (result.kind === 'answered') expect(result.value).toEqual({ [uuid]: 'r' }); // it speaks for its own GPUs only
});

test('an inside address is never called unless allowed', async () => {
  const { uuid: _uuid, ...input } = on();
  let calls = 0;
  answer = (_req, res) => {
    calls++;
    res.end('{}');
  };
  for (const host of ['127.0.0.1', 'localhost']) {
    const nodes = input.nodes.map((node) => ({ ...node, host }));
    expect(
      await run((given) => strict.walkOnAgent(given), { ...input, nodes, nonce2: 'n', withinMs: 2000 }),
    ).not.toMatchObject({
      kind: 'answered',
    });
  }
  expect(calls).toBe(0);
});

const OPENINGS_SHA = createHash('sha256').update('openings').digest('hex');
test('openings go to the store as they came, also when the first answer is lost', async () => {
  const { uuid, ...input } = on();
  let calls = 0;
  answer = (req, res) => {
    req.resume();
    if (calls++ === 0) req.socket.destroy();
    else res.end(Buffer.from('openings'));
  };
  expect(
    await run((given) => activities.openOnAgent(given), {
      ...input,
      samples: { [uuid]: { fill: [], walk: [] } },
      budgetMs: 60_000,
      maxBytes: { [uuid]: 100 },
    }),
  ).toMatchObject({
    kind: 'answered',
    value: { [uuid]: { key: `proofs/s/${OPENINGS_SHA}`, sha256: OPENINGS_SHA } },
  });
  expect(stored.get(`proofs/s/${OPENINGS_SHA}`)).toBe('openings');
}, 20_000);

test('openings larger than the profile has are refused', async () => {
  const { uuid, ...input } = on();
  answer = (_req, res) => void res.end('x'.repeat(101));
  const samples = { [uuid]: { fill: [], walk: [] } };
  const limits = { budgetMs: 60_000, maxBytes: { [uuid]: 100 } };
  expect(await run((given) => activities.openOnAgent(given), { ...input, samples, ...limits })).toMatchObject({
    kind: 'refused',
    detail: expect.stringContaining('larger than 100') as unknown,
  });
});

test('an agent gets so much time for all its openings, whatever it does with it', async () => {
  const { uuid, ...input } = on();
  answer = () => {};
  const result = await run((given) => activities.openOnAgent(given), {
    ...input,
    samples: { [uuid]: { fill: [], walk: [] } },
    budgetMs: 300,
    maxBytes: { [uuid]: 100 },
  });
  expect(result).toMatchObject({ kind: 'silent' });
});

test('twenty questions have one deadline together: an agent cannot hold a window open by answering slowly', async () => {
  const { uuid: _uuid, ...input } = on();
  let asked = 0;
  answer = (_req, res) => {
    asked++;
    setTimeout(() => res.end('x'), asked === 1 ? 0 : 60_000);
  };
  expect(await run((given) => activities.askDeviceInfo(given), input)).toMatchObject({ kind: 'refused' });
  expect(asked).toBe(1);
});

test('a GPU in a sweep stays until the sweep has ended', async () => {
  const request = registration([announced()]);
  const [node] = await activities.insertNodes(request);
  if (!node) throw new Error('a node');
  const forget = () => activities.forgetNode({ uuid: node.uuid, minerHotkey: 'miner', by: 'miner' });
  await database.knex('nodes').update({ sweep_id: 's', sweep_until: new Date(Date.now() + 60_000) });
  await expect(forget()).rejects.toMatchObject({ code: 'resource.conflict' });
  await database.knex('nodes').update({ sweep_until: new Date(Date.now() - 1) });
  await forget();
  expect(await rows()).toEqual([]);
});

test('a miner with many unproven GPUs waits for them before it announces more', async () => {
  const { uuid: _uuid } = on();
  for (let batch = 0; batch < 7; batch++)
    await activities.insertNodes(registration(Array.from({ length: 10 }, () => announced())));
  await expect(activities.insertNodes(registration([announced()]))).rejects.toMatchObject({ code: 'rate.limited' });
});

test('openings are asked GPU by GPU, and a new attempt goes on after the last one that was stored', async () => {
  const { uuid, ...input } = on();
  const [node] = input.nodes;
  if (!node) throw new Error('a node');
  const second = { ...node, uuid: uuidOf() };
  const asked: unknown[] = [];
  answer = (req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (chunk: Buffer) => void chunks.push(chunk));
    req.on('end', () => {
      asked.push((JSON.parse(Buffer.concat(chunks).toString()) as { gpu_uuid: string }).gpu_uuid);
      res.end('later');
    });
  };
  const kept = { key: 'proofs/kept', sha256: 'kept' };
  const result = await new MockActivityEnvironment({ heartbeatDetails: { opened: { [uuid]: kept } } }).run(
    (given: Parameters<typeof activities.openOnAgent>[0]) => activities.openOnAgent(given),
    { ...input, nodes: [node, second], samples: {}, budgetMs: 60_000, maxBytes: { [second.uuid]: 100 } },
  );
  expect(asked).toEqual([second.uuid]);
  expect(result).toMatchObject({
    value: { [uuid]: kept, [second.uuid]: { key: expect.stringContaining('proofs/s/') as unknown } },
  });
});

test('a release that the agent did not confirm is an error, so that it is tried again', async () => {
  const { uuid: _uuid, ...input } = on();
  answer = (_req, res) => void res.writeHead(500).end();
  await expect(run((given) => activities.releaseAgent(given), input)).rejects.toThrow('did not release');
  answer = (_req, res) => void res.writeHead(204).end();
  await run((given) => activities.releaseAgent(given), input);
});
