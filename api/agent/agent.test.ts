import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { loadHotkey, type Hotkey } from '../../activities/clients/hotkey.ts';
import type { GpuProver } from '../../activities/clients/gpu-prover.ts';
import { createLogger } from '../../activities/clients/log.ts';
import { loadAgentConfig } from '../../workers/config/agent.ts';
import { GPU_TYPES, gpuTypeOfName } from '../../workflows/domain/gpus/gpu-table.ts';
import { deviceInfoAnswer } from '../../workflows/domain/nodes/device-info.ts';
import { drawSamples } from '../../workflows/domain/proof/draw-samples.ts';
import type { PovwChallenge } from '../../workflows/domain/proof/messages.ts';
import { openingsFromBinary } from '../../workflows/domain/proof/openings-binary.ts';
import { seedOf } from '../../workflows/domain/proof/povw-hashes.ts';
import { PROFILES } from '../../workflows/domain/proof/profiles.ts';
import { verifyOpenings } from '../../workflows/domain/proof/verify-openings.ts';
import type { AgentOpenRequest } from '../../workflows/domain/protocol/agent.ts';
import { createApp } from '../http/app.ts';
import { createAgentAuth } from './agent-auth.ts';
import { DEVICE_NAMES, findDevices, parseNvidiaSmi, plausibleDevice, type Inventory } from './devices.ts';
import { ProofSessions } from './proof-sessions.ts';
import { agentRoutes } from './routes.ts';

let dir: string;
let miner: Hotkey;
let validator: Hotkey;
let stranger: Hotkey;
let server: Server;
let base: string;
let inventory: Inventory;
let sessions: ProofSessions;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'canopy-agent-'));
  [miner, validator, stranger] = await Promise.all([
    loadHotkey('01'.repeat(32)),
    loadHotkey('02'.repeat(32)),
    loadHotkey('03'.repeat(32)),
  ]);
  inventory = await findDevices({ simulatedGpus: '2xh100_sxm', workDir: dir });
  sessions = new ProofSessions({
    minerHotkey: miner.address,
    gpuUuids: inventory.devices.map(({ uuid }) => uuid),
    idleMs: 60_000,
  });
  const auth = createAgentAuth({ minerHotkey: miner.address, validatorHotkeys: [validator.address] });
  server = createServer(
    createApp({
      program: 'agent',
      log: createLogger('test', 'silent'),
      routers: [agentRoutes({ auth, inventory, sessions, workDir: dir })],
    }),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  await sessions.closeAll();
  server.close();
  server.closeAllConnections();
  await rm(dir, { recursive: true, force: true });
});

const post = (path: string, value: unknown, { key = validator, nonce }: { key?: Hotkey; nonce?: string } = {}) => {
  const body = JSON.stringify(value);
  return fetch(`${base}${path}`, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      ...key.minerHeaders({ miner: miner.address, validator: key.address }, { body }, nonce),
    },
  });
};
const get = (path: string, purpose: 'graval' | 'management' | 'miner', key: Hotkey, nonce?: string) =>
  fetch(`${base}${path}`, {
    headers: key.minerHeaders({ miner: miner.address, validator: key.address }, { purpose }, nonce),
  });

const open = (body: AgentOpenRequest) => post('/povw/open', body);

const challengesFor = (uuids: string[], name: 'tiny-b' | 'cpu-dev' = 'tiny-b'): PovwChallenge[] =>
  uuids.map((gpuUuid, at) => ({
    binding: {
      validatorNonce: `0${at}`.repeat(32),
      configId: 'c',
      minerHotkey: miner.address,
      gpuUuid,
      gpuType: 'h100_sxm',
      vramBytes: 80e9,
      transportPublicKey: '0'.repeat(64),
    },
    profile: PROFILES[name],
  }));
const uuids = () => inventory.devices.map(({ uuid }) => uuid);

test('a validator proves both GPUs over HTTP, and each step asked again answers the same', async () => {
  const challenges = challengesFor(uuids(), 'cpu-dev');
  const commit = async () =>
    (await post('/povw/commit', { session: 'one', challenges })).json() as Promise<{ roots: Record<string, string> }>;
  const { roots } = await commit();
  expect(await commit()).toEqual({ roots });
  const nonce2 = '44'.repeat(32);
  const walk = async () =>
    (await post('/povw/walk', { session: 'one', nonce2 })).json() as Promise<{ walks: Record<string, unknown> }>;
  const { walks } = await walk();
  expect(await walk()).toEqual({ walks });
  for (const [at, challenge] of challenges.entries()) {
    const { binding, profile } = challenge;
    const uuid = binding.gpuUuid;
    const samples = drawSamples(profile, new Uint8Array(32).fill(9 + at));
    const answer = await open({ session: 'one', gpu_uuid: uuid, samples });
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/octet-stream']);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    expect(new Uint8Array(await (await open({ session: 'one', gpu_uuid: uuid, samples })).arrayBuffer())).toEqual(
      bytes,
    );
    const openings = openingsFromBinary({ profile, seed: seedOf(binding), samples }, bytes);
    const proven = { challenge, nonce2, root: roots[uuid], walk: walks[uuid], samples, openings };
    expect(verifyOpenings(proven)).toMatchObject({ verified: true });
    const others = drawSamples(profile, new Uint8Array(32).fill(20));
    expect((await open({ session: 'one', gpu_uuid: uuid, samples: others })).status).toBe(409);
    const beyond = { ...samples, fill: samples.fill.map((sample) => ({ ...sample, block: profile.blocks })) };
    expect((await open({ session: 'one', gpu_uuid: uuid, samples: beyond })).status).toBe(400);
  }
  const none = { fill: [], walk: [] };
  expect((await open({ session: 'one', gpu_uuid: 'f'.repeat(32), samples: none })).status).toBe(404);
  expect((await post('/povw/walk', { session: 'one', nonce2: '55'.repeat(32) })).status).toBe(409);
  expect((await post('/povw/commit', { session: 'two', challenges })).status).toBe(503);
  const headers = validator.minerHeaders({ miner: miner.address, validator: validator.address }, { purpose: 'graval' });
  for (const _ of [1, 2]) expect((await fetch(`${base}/povw/one`, { method: 'DELETE', headers })).status).toBe(204);
  expect(sessions.size).toBe(0);
  expect((await post('/povw/walk', { session: 'one', nonce2 })).status).toBe(404);
});

test('ping and health are open; devices and status are for the miner; info for the validator', async () => {
  expect(await (await fetch(`${base}/ping`)).text()).toBe('pong');
  expect((await fetch(`${base}/health`)).status).toBe(200);
  expect((await fetch(`${base}/metrics`)).status).toBe(200);
  expect(await (await get('/devices', 'graval', miner)).json()).toEqual({ devices: inventory.devices });
  expect(await (await get('/status', 'management', miner)).json()).toMatchObject({
    simulated: true,
    gpus: inventory.devices,
    cpus: expect.any(Number) as unknown,
    provers: Object.fromEntries(uuids().map((uuid) => [uuid, 'TypeScript'])),
  });
  const challenge = `01${'ab'.repeat(31)}`;
  const second = inventory.devices[1];
  if (!second) throw new Error('two devices');
  expect(await (await get(`/info?challenge=${challenge}`, 'graval', validator)).text()).toBe(
    deviceInfoAnswer(challenge, second),
  );
  expect((await get('/info?challenge=zz', 'graval', validator)).status).toBe(422);
});

test.each([
  ['no headers', () => fetch(`${base}/devices`)],
  ['a stranger reads devices', () => get('/devices', 'graval', stranger)],
  ['the validator reads devices', () => get('/devices', 'graval', validator)],
  ['the miner asks for info as a validator', () => get(`/info?challenge=${'00'.repeat(32)}`, 'graval', miner)],
  ['another purpose', () => get('/devices', 'miner', miner)],
  ['a stale nonce', () => get('/devices', 'graval', miner, String(Math.floor(Date.now() / 1000) - 31))],
  ['a nonce of the future', () => get('/devices', 'graval', miner, String(Math.floor(Date.now() / 1000) + 31))],
  ['a nonce that is no number', () => get('/devices', 'graval', miner, '12x')],
  ['a stranger commits', () => post('/povw/commit', {}, { key: stranger })],
  [
    'another body than the signed one',
    () =>
      fetch(`${base}/povw/walk`, {
        method: 'POST',
        body: '{"session":"x"}',
        headers: validator.minerHeaders({ miner: miner.address, validator: validator.address }, { body: '{}' }),
      }),
  ],
  [
    'the miner named is another',
    () =>
      fetch(`${base}/devices`, {
        headers: stranger.minerHeaders({ miner: stranger.address, validator: stranger.address }, { purpose: 'graval' }),
      }),
  ],
])('%s: 401 without telling what was expected', async (_, request) => {
  const answer = await request();
  expect(answer.status).toBe(401);
  expect(await answer.json()).toEqual({ detail: expect.stringMatching(/^go away/) as unknown });
});

test('a body-signed request counts once', async () => {
  const body = JSON.stringify({ session: 'none', nonce2: '00'.repeat(32) });
  const headers = validator.minerHeaders({ miner: miner.address, validator: validator.address }, { body });
  const send = async () => (await fetch(`${base}/povw/walk`, { method: 'POST', body, headers })).status;
  expect([await send(), await send()]).toEqual([404, 401]);
});

test.each([
  ['not JSON', 'x', 422],
  ['another miner', { session: 's', challenges: challengeFor({ minerHotkey: 'x' }) }, 400],
  ['a malformed profile', { session: 's', challenges: challengeFor({}, { n: -1 }) }, 422],
  ['no challenges', { session: 's', challenges: [] }, 422],
  ['a session name with a path in it', { session: '../s', challenges: challengeFor({}) }, 422],
  ['too large a body', { session: 's', padding: 'x'.repeat(3 * 2 ** 20) }, 413],
])('%s is refused', async (_, body, status) => {
  expect((await post('/povw/commit', body)).status).toBe(status);
  expect(sessions.size).toBe(0);
});
function challengeFor(binding: object, profile: object = {}): unknown[] {
  return [
    {
      binding: {
        validatorNonce: '00'.repeat(32),
        configId: 'c',
        minerHotkey: 'm',
        gpuUuid: 'a'.repeat(32),
        gpuType: 'h100',
        vramBytes: 1,
        transportPublicKey: '0'.repeat(64),
        ...binding,
      },
      profile: { ...PROFILES['tiny-a'], ...profile },
    },
  ];
}

test('a profile for a GPU is refused where a CPU would prove it, with what is missing', async () => {
  const [challenge] = challengesFor(uuids());
  if (!challenge) throw new Error('no GPU');
  const large = { ...challenge, profile: { ...challenge.profile, name: 'h100', n: 16_384, blocks: 284 } };
  const answer = await post('/povw/commit', { session: 's', challenges: [large] });
  expect([answer.status, await answer.json()]).toEqual([
    400,
    {
      detail: 'profile h100 is for a GPU, not for a CPU: build graval (npm run build:gpu) and name it in CANOPY_GRAVAL',
    },
  ]);
  expect(sessions.size).toBe(0);
});

test('a GPU of another server is not found', async () => {
  expect((await post('/povw/commit', { session: 's', challenges: challengesFor(['f'.repeat(32)]) })).status).toBe(404);
});

test('a GPU challenged twice in a session is refused', async () => {
  const [uuid = ''] = uuids();
  expect((await post('/povw/commit', { session: 's', challenges: challengesFor([uuid, uuid]) })).status).toBe(400);
});

const never = (): Promise<never> => new Promise(() => {});
/** Sessions whose provers are told what to do: for what real ones do only when the machine is in trouble. */
function sessionsWith(prover: Partial<GpuProver>, idleMs = 60_000): ProofSessions {
  const whole = { commit: async () => '', walk: never, open: never, close: async () => {}, ...prover };
  return new ProofSessions({ minerHotkey: miner.address, gpuUuids: uuids(), idleMs, startProver: () => whole });
}

test('a GPU whose prover is still ending is busy: its memory is not free yet', async () => {
  const ended = Promise.withResolvers<void>();
  const slow = new ProofSessions({
    minerHotkey: miner.address,
    gpuUuids: uuids(),
    idleMs: 60_000,
    startProver: () => ({
      commit: async () => '',
      walk: () => new Promise(() => {}),
      open: () => new Promise(() => {}),
      close: () => ended.promise,
    }),
  });
  const challenges = challengesFor(uuids().slice(0, 1));
  await slow.commit('s', challenges);
  const closing = slow.close('s');
  expect(() => slow.commit('t', challenges)).toThrow('in another proof');
  ended.resolve();
  await closing;
  await slow.commit('t', challenges);
  await slow.closeAll();
});

test('an abandoned session frees its GPUs', async () => {
  const closed = Promise.withResolvers<void>();
  const short = sessionsWith({ close: async () => closed.resolve() }, 20);
  await short.commit('s', challengesFor(uuids().slice(0, 1)));
  await closed.promise;
  await new Promise((resolve) => setImmediate(resolve)); // the session hears of it too
  expect(short.size).toBe(0);
  await short.commit('t', challengesFor(uuids().slice(0, 1)));
  expect(short.size).toBe(1);
  await short.closeAll();
});

test.each<keyof GpuProver>(['commit', 'walk', 'open'])(
  'a prover that fails in %s ends its session and frees its GPUs',
  async (step) => {
    const failing = sessionsWith({
      walk: async () => ({ digest: '', trace_root: '' }),
      [step]: () => Promise.reject(new Error('graval serve ended with SIGKILL')),
    });
    const challenges = challengesFor(uuids());
    const samples = drawSamples(PROFILES['tiny-b'], new Uint8Array(32));
    const proof = async () => {
      await failing.commit('s', challenges);
      await failing.walk('s', '44'.repeat(32));
      await failing.open('s', uuids()[0] ?? '', samples);
    };
    await expect(proof()).rejects.toMatchObject({
      code: 'service.unavailable',
      message: expect.stringContaining('SIGKILL') as unknown,
    });
    expect(failing.size).toBe(0);
  },
);

test('simulated GPUs keep their uuids in the work folder, also when there are more of them', async () => {
  const again = await findDevices({ simulatedGpus: '2xh100_sxm', workDir: dir });
  expect(again.devices).toEqual(inventory.devices);
  const more = await findDevices({ simulatedGpus: '1xh100_sxm,2x4090', workDir: dir });
  expect(more.devices.map(({ uuid }) => uuid).slice(0, 2)).toEqual(uuids());
  expect(more.devices.map(({ name }) => gpuTypeOfName(name)?.ref)).toEqual(['h100_sxm', '4090', '4090']);
});

test.each(['0xh100', '2xnothing', 'h100', '17xh100', '9xh100,9xh100'])(
  'CANOPY_SIMULATED_GPUS=%s says what is wrong',
  async (simulatedGpus) => {
    await expect(findDevices({ simulatedGpus, workDir: dir })).rejects.toThrow('CANOPY_SIMULATED_GPUS');
  },
);

test('a damaged uuid file is an error, not new GPUs', async () => {
  const other = await mkdtemp(join(tmpdir(), 'canopy-agent-'));
  await writeFile(join(other, 'simulated-gpus.json'), '{');
  await expect(findDevices({ simulatedGpus: '1xh100', workDir: other })).rejects.toThrow('simulated-gpus.json');
  await rm(other, { recursive: true });
});

test('every type of the table has a device whose name is found as that type', () => {
  for (const type of GPU_TYPES) expect(gpuTypeOfName(plausibleDevice(type, 'a'.repeat(32)).name)?.ref).toBe(type.ref);
  expect(Object.keys(DEVICE_NAMES)).toEqual(expect.arrayContaining(GPU_TYPES.map(({ ref }) => ref)));
});

test('what nvidia-smi says becomes devices of the wire', () => {
  const csv = 'GPU-8f4b2d3c-1a2b-3c4d-5e6f-0123456789AB, NVIDIA H100 80GB HBM3, 81559, 1980, 9.0, Enabled\n\n';
  expect(parseNvidiaSmi(csv)).toEqual([
    {
      uuid: '8f4b2d3c1a2b3c4d5e6f0123456789ab',
      name: 'NVIDIA H100 80GB HBM3',
      memory: 81_559 * 2 ** 20,
      clock_rate: 1_980_000,
      major: 9,
      minor: 0,
      processors: null,
      max_threads_per_processor: 2048,
      sxm: true,
      ecc: true,
      concurrent_kernels: true,
    },
  ]);
  expect(() => parseNvidiaSmi('No devices were found')).toThrow('unexpected');
});

test('without nvidia-smi the GPUs are those graval found; with neither it says what to do', async () => {
  const { PATH } = process.env;
  process.env.PATH = dir;
  try {
    const found = { index: 0, name: 'NVIDIA H100 80GB HBM3', uuid: 'a'.repeat(32), memoryBytes: 85e9, processors: 132, clockKhz: 1_980_000, major: 9, minor: 0, maxThreadsPerProcessor: 2048 }; // prettier-ignore
    expect(await findDevices({ simulatedGpus: undefined, workDir: dir, gravalDevices: [found] })).toEqual({
      simulated: false,
      devices: [
        expect.objectContaining({ uuid: found.uuid, memory: 85e9, clock_rate: 1_980_000, processors: 132, sxm: true }),
      ],
    });
    await expect(findDevices({ simulatedGpus: undefined, workDir: dir })).rejects.toThrow('CANOPY_SIMULATED_GPUS');
  } finally {
    process.env.PATH = PATH;
  }
});

test('the configuration names every bad variable', () => {
  expect(() => loadAgentConfig({ CANOPY_MINER_HOTKEY: 'x' })).toThrow(
    /CANOPY_MINER_HOTKEY[\s\S]*CANOPY_VALIDATOR_HOTKEYS is missing/,
  );
  const config = loadAgentConfig({
    CANOPY_MINER_HOTKEY: miner.address,
    CANOPY_VALIDATOR_HOTKEYS: ` ${validator.address}, ${stranger.address}`,
  });
  expect(config.CANOPY_VALIDATOR_HOTKEYS).toEqual([validator.address, stranger.address]);
});
