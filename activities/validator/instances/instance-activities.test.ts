import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { MockActivityEnvironment } from '@temporalio/testing';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import pg from 'pg';
import { insertMiner, insertUser } from '../../../api/validator/testing/test-api.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import {
  insertChute,
  insertNode,
  insertPermission,
  TEST_CERTIFICATE,
  TEST_CERTIFICATE_KEY,
  type ChuteOptions,
  type Permission,
} from '../../../workers/testing/launch-fixture.ts';
import type { ClaimInput } from '../../../workflows/validator/instances/messages.ts';
import { SecretBox } from '../../clients/secret-box.ts';
import { loadInstances } from '../invocations/routing-store.ts';
import { createSweepActivities } from '../nodes/sweep-activities.ts';
import { createInstanceActivities } from './instance-activities.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let userId: string;
const box = new SecretBox('33'.repeat(32));
const config = { CANOPY_NETUID: 64, CANOPY_PROOF: 'simulated' as const };
const acts = () => createInstanceActivities({ db: database.knex, box, config });
beforeAll(async () => {
  database = await createTestDatabase('validator');
  ({ userId } = await insertUser(database.knex));
});
afterAll(() => database.drop());

let nextPort = 20_000;
const claimOf = (uuids: string[], over: Partial<ClaimInput> = {}): ClaimInput => ({
  gpus: uuids.map((uuid) => ({ uuid, name: 'NVIDIA H100', memory: 1, clock_rate: 1 })),
  host: '127.0.0.1',
  portMappings: [{ proto: 'tcp', internal_port: 8000, external_port: nextPort++ }],
  transport: 'canopy/1',
  tlsCertPem: TEST_CERTIFICATE,
  transportPublicKey: '11'.repeat(32),
  receivedAtMs: Date.now(),
  ...over,
});
interface Scene extends Permission {
  gpu: string;
}
async function scene(options: ChuteOptions = {}): Promise<Scene> {
  const miner = (await insertMiner(database.knex)).address;
  const chuteId = await insertChute(database.knex, userId, options);
  return {
    ...(await insertPermission(database.knex, box, chuteId, miner)),
    gpu: await insertNode(database.knex, miner),
  };
}
const claim = ({ instanceId, configId, gpu }: Scene, over: Partial<ClaimInput> = {}) =>
  acts().claimLaunch({ instanceId, configId, claim: claimOf([gpu], over) });
const summary = { trustLevel: 'simulated' as const, gpus: [], fillMs: 1, walkMs: 1 };
async function active(over: ChuteOptions = {}): Promise<Scene> {
  const made = await scene(over);
  await claim(made);
  await acts().recordVerified({ instanceId: made.instanceId, summary });
  await acts().recordActive({ instanceId: made.instanceId });
  return made;
}

/** Every row of the launch, and how many messages it caused: what running twice must not change. */
async function stateOf({ instanceId, configId }: Permission) {
  const { knex } = database;
  return {
    instance: await knex('instances').where({ instance_id: instanceId }).first(),
    nodes: await knex('instance_nodes').where({ instance_id: instanceId }),
    audit: await knex('instance_audit').where({ instance_id: instanceId }).first(),
    config: await knex('launch_configs').where({ config_id: configId }).first(),
    events: (await knex('events').whereRaw(`payload->'data'->>'instance_id' = ?`, [instanceId]).orderBy('seq')).map(
      (event) => `${event.channel}:${event.payload.reason}`,
    ),
  };
}

test.each<[string, (made: Scene) => Promise<unknown>]>([
  [
    'claimLaunch',
    async (made) => claim(made, { portMappings: [{ proto: 'tcp', internal_port: 8000, external_port: 19_999 }] }),
  ],
  ['recordVerified', async ({ instanceId }) => acts().recordVerified({ instanceId, summary })],
  ['recordActive', async ({ instanceId }) => acts().recordActive({ instanceId })],
  ['setRoutable', async ({ instanceId }) => acts().setRoutable({ instanceId, isRoutable: false, detail: 'd' })],
  ['stopRouting', async ({ instanceId }) => acts().stopRouting({ instanceId })],
  [
    'forgetInstance',
    async ({ instanceId, configId }) =>
      acts().forgetInstance({ instanceId, configId, code: 'silent', evidence: { a: 1 } }),
  ],
])('%s run twice leaves the same state and gives the same answer', async (name, act) => {
  const made = name === 'claimLaunch' ? await scene() : await scene();
  if (name !== 'claimLaunch') await claim(made);
  if (!['claimLaunch', 'recordVerified'].includes(name))
    await acts().recordVerified({ instanceId: made.instanceId, summary });
  const first = await act(made);
  const state = await stateOf(made);
  expect(await act(made)).toEqual(first);
  expect(await stateOf(made)).toEqual(state);
});

test('a launch leaves its rows, its audit record and its events, in order; removal frees the GPU and keeps why', async () => {
  const made = await active();
  const before = await stateOf(made);
  expect(before.instance).toMatchObject({
    active: true,
    verified: true,
    gpu_count: 1,
    hourly_rate_micro_usd: expect.any(Number),
    tls_cert_sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
  expect(box.open(before.instance.session_secret_sealed, `instance:${made.instanceId}`)).toMatch(/^[0-9a-f]{64}$/);
  expect(before.audit).toMatchObject({ gpu_uuids: [made.gpu], activated_at: expect.any(Date), deleted_at: null });
  await acts().forgetInstance({ ...made, code: 'silent', evidence: { detail: 'ECONNREFUSED' } });
  const { audit, events, instance, nodes } = await stateOf(made);
  expect({ instance, nodes }).toEqual({ instance: undefined, nodes: [] });
  expect(audit).toMatchObject({
    removal_code: 'silent',
    gpu_uuids: [made.gpu],
    evidence: { detail: 'ECONNREFUSED', host: '127.0.0.1' },
  });
  expect(events).toEqual([
    'miner_broadcast:instance_created',
    'events:instance_created',
    'miner_broadcast:instance_verified',
    'events:instance_hot',
    'miner_broadcast:instance_activated',
    'events:instance_activated',
    'miner_broadcast:instance_deleted',
    'events:instance_deleted',
  ]);
  const again = await insertPermission(database.knex, box, made.chuteId, made.minerHotkey);
  expect(await claim({ ...again, gpu: made.gpu })).toMatchObject({ kind: 'claimed' });
});

test('an instance that drains is chosen by no gateway, told by NOTIFY; only one that could be chosen is worth a wait', async () => {
  const made = await active();
  const routed = async () => (await loadInstances(database.knex)).map(({ instanceId }) => instanceId);
  expect(await routed()).toContain(made.instanceId);
  const listener = new pg.Client(database.url);
  await listener.connect();
  try {
    await listener.query('listen canopy_routing');
    const told = once(listener, 'notification');
    for (let run = 0; run < 2; run++)
      expect(await acts().stopRouting({ instanceId: made.instanceId })).toEqual({ wasRoutable: true });
    expect((await told)[0]).toMatchObject({ payload: 'instances' });
  } finally {
    await listener.end();
  }
  expect(await routed()).not.toContain(made.instanceId);
  const disabled = await active();
  await acts().setRoutable({ instanceId: disabled.instanceId, isRoutable: false, detail: 'd' });
  for (const instanceId of [disabled.instanceId, randomUUID()])
    expect(await acts().stopRouting({ instanceId })).toEqual({ wasRoutable: false });
});

test('a permission nobody claimed ends with its record and a failed config; a claim that comes after is refused', async () => {
  const made = await scene();
  await acts().forgetInstance({ ...made, code: 'claim_timeout', evidence: {} });
  expect(await stateOf(made)).toMatchObject({
    audit: { removal_code: 'claim_timeout', gpu_count: 0 },
    config: { failure_code: 'claim_timeout' },
    events: ['miner_broadcast:instance_deleted'],
  });
  expect(await claim(made)).toMatchObject({ kind: 'refused', code: 'auth.unauthorized', removal: null });
});

test('of two claims for one GPU at the same time exactly one wins; the other burns its config', async () => {
  for (let round = 0; round < 5; round++) {
    const one = await scene({ targetCount: 9 });
    const other = {
      ...(await insertPermission(database.knex, box, await insertChute(database.knex, userId), one.minerHotkey)),
      gpu: one.gpu,
    };
    const outcomes = await Promise.all([claim(one), claim(other)]);
    expect(outcomes.map(({ kind }) => kind).sort()).toEqual(['claimed', 'refused']);
    expect(outcomes.find(({ kind }) => kind === 'refused')).toMatchObject({
      code: 'resource.conflict',
      removal: 'claim_refused',
    });
    expect(await database.knex('instance_nodes').where({ node_uuid: one.gpu })).toHaveLength(1);
    const loser = outcomes[0]?.kind === 'claimed' ? other : one;
    expect((await stateOf(loser)).config.failure_code).toBe('claim_refused');
  }
});

test('a GPU in a sweep is not claimed: nothing is written, the token stays, and the claim is good afterwards', async () => {
  const made = await scene();
  const sweeps = createSweepActivities({ db: database.knex, everyMs: 1 });
  const sweepId = randomUUID();
  expect(await sweeps.reserveIdleNodes({ minerHotkeys: [made.minerHotkey], sweepId })).toHaveLength(1);
  for (const _ of [1, 2]) expect(await claim(made)).toEqual({ kind: 'awaiting', gpuUuids: [made.gpu] });
  expect(await stateOf(made)).toMatchObject({ nodes: [], events: [], config: { failed_at: null } });
  await sweeps.releaseNodes({ sweepId, uuids: [made.gpu] });
  expect(await claim(made)).toMatchObject({ kind: 'claimed' });
  expect(await sweeps.reserveIdleNodes({ minerHotkeys: [made.minerHotkey], sweepId })).toEqual([]);
});

test('of a claim and a sweep at the same moment exactly one gets the GPU', async () => {
  const sweeps = createSweepActivities({ db: database.knex, everyMs: 1 });
  for (let round = 0; round < 10; round++) {
    const made = await scene();
    const reserve = () => sweeps.reserveIdleNodes({ minerHotkeys: [made.minerHotkey], sweepId: randomUUID() });
    const [outcome, reserved] = await Promise.all([claim(made), reserve()]);
    expect({ claimed: outcome.kind === 'claimed', swept: reserved.length === 1 }).toEqual(
      outcome.kind === 'claimed' ? { claimed: true, swept: false } : { claimed: false, swept: true },
    );
  }
});

test('of two claims for the last instance a chute wants exactly one wins; the other keeps its token', async () => {
  const one = await scene({ targetCount: 1 });
  const other = {
    ...(await insertPermission(database.knex, box, one.chuteId, one.minerHotkey)),
    gpu: await insertNode(database.knex, one.minerHotkey),
  };
  const outcomes = await Promise.all([claim(one), claim(other)]);
  expect(outcomes.filter(({ kind }) => kind === 'refused')).toEqual([
    expect.objectContaining({ code: 'launch.not_scalable', removal: null }),
  ]);
});

test.each<[string, ChuteOptions, (made: Scene) => Promise<unknown>, string, string | null]>([
  [
    'a GPU of nobody',
    {},
    async (made) => claim({ ...made, gpu: 'f'.repeat(32) }),
    'resource.not_found',
    'claim_refused',
  ],
  ['another host', {}, async (made) => claim(made, { host: '10.0.0.1' }), 'request.invalid', 'claim_refused'],
  [
    'trust the plug-in cannot reach',
    { minimumTrustLevel: 'povw' },
    async (made) => claim(made),
    'request.invalid',
    'claim_refused',
  ],
  [
    'a chute of a newer version',
    {},
    async (made) => {
      await database.knex('chutes').where({ chute_id: made.chuteId }).update({ version: randomUUID() });
      return claim(made);
    },
    'launch.not_scalable',
    'old_version',
  ],
  [
    'a blacklisted miner',
    {},
    async (made) => {
      await database.knex('metagraph_nodes').where({ hotkey: made.minerHotkey }).update({ blacklist_reason: 'lied' });
      return claim(made);
    },
    'auth.forbidden',
    null,
  ],
  ['a chute at its target', { targetCount: 0 }, async (made) => claim(made), 'launch.not_scalable', null],
])('a claim with %s is refused', async (_, options, act, code, removal) => {
  expect(await act(await scene(options))).toMatchObject({ kind: 'refused', code, removal });
});

test('of two activations of a private chute that wants one exactly one wins', async () => {
  const one = await scene({ public: false, targetCount: 2 });
  const other = {
    ...(await insertPermission(database.knex, box, one.chuteId, one.minerHotkey)),
    gpu: await insertNode(database.knex, one.minerHotkey),
  };
  for (const made of [one, other]) {
    await claim(made);
    await acts().recordVerified({ instanceId: made.instanceId, summary });
  }
  await database.knex('chutes').where({ chute_id: one.chuteId }).update({ target_count: 1 });
  const outcomes = await Promise.all([one, other].map(({ instanceId }) => acts().recordActive({ instanceId })));
  expect(outcomes.map(({ kind }) => kind).sort()).toEqual(['active', 'at_target']);
  expect((await stateOf(one)).instance.compute_multiplier).toBeGreaterThan(1); // sixteen times the public price
});

test.each<[string, number, string, string]>([
  ['a ready instance', 200, '{"ready":true,"draining":false}', 'serving'],
  ['a draining one', 200, '{"ready":true,"draining":true}', 'unseen'],
  ['one whose child is not ready', 503, '{"ready":false}', 'unseen'],
])('the probe sees %s as %s %s: %s', async (_, status, body, kind) => {
  const heard: (string | undefined)[] = [];
  const server: Server = createServer(
    { cert: TEST_CERTIFICATE, key: TEST_CERTIFICATE_KEY, minVersion: 'TLSv1.3' },
    (req, res) => {
      heard.push(req.headers.authorization);
      res.writeHead(status).end(body);
    },
  ).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const made = await active();
  await database
    .knex('instances')
    .where({ instance_id: made.instanceId })
    .update({ port: (server.address() as AddressInfo).port });
  const probe = () =>
    new MockActivityEnvironment().run((input: { instanceId: string }) => acts().probeInstance(input), made);
  expect(await probe()).toMatchObject({ kind });
  const { instance } = await stateOf(made);
  expect(heard[0]).toBe(`Bearer ${box.open(instance.session_secret_sealed, `instance:${made.instanceId}`)}`);
  await database
    .knex('instances')
    .where({ instance_id: made.instanceId })
    .update({ tls_cert_sha256: '00'.repeat(32) });
  heard.length = 0;
  expect(await probe()).toMatchObject({ kind: 'unseen', detail: 'certificate is not the pinned one' });
  expect(heard).toEqual([]); // the secret went to nobody else
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
  expect(await probe()).toMatchObject({ kind: 'unseen', detail: 'ECONNREFUSED' });
});
