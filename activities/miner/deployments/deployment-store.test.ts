import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { CHUTE_ID, gpuId, id, minerStores, seedInventory, SERVER_ID, VERSION } from '../testing.ts';
import type { LocalChute } from '../policy/remote-view-store.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let stores: ReturnType<typeof minerStores>;
let chute: LocalChute;
beforeAll(async () => void (database = await createTestDatabase('miner')));
afterAll(() => database.drop());
beforeEach(async () => {
  stores = await seedInventory(database.knex, 3);
  chute = (await stores.remote.chute(CHUTE_ID)) as LocalChute;
});
afterEach(() => database.knex.raw('truncate servers, chutes, deployments, gpus, deployment_audit cascade'));

const reserve = (n: number) =>
  stores.deployments.reserve({ deploymentId: id(n), chute, onlyServerId: null, driver: 'process' });
const holders = async () =>
  (await database.knex('gpus').whereNotNull('deployment_id').orderBy('gpu_id')).map((gpu) => gpu.deployment_id);

test('one GPU set, ten deployments at once: one gets it, the others get a no, nothing is promised twice', async () => {
  const answers = await Promise.all(Array.from({ length: 10 }, (_, n) => reserve(n)));
  expect(answers.filter((answer) => answer.kind === 'reserved')).toHaveLength(1);
  expect(answers.filter((answer) => answer.kind === 'no_gpus')).toHaveLength(9);
  expect(await database.knex('deployments')).toHaveLength(1);
  const held = await holders();
  expect(held).toHaveLength(2);
  expect(new Set(held).size).toBe(1);
});

test('reserved twice is reserved once', async () => {
  const first = await reserve(1);
  expect(await reserve(1)).toEqual(first);
  expect(await holders()).toEqual([id(1), id(1)]);
});

test('ports are nobody else’s, and run out with a reason', async () => {
  const small = minerStores(database.knex, { first: 40_000, last: 40_001 });
  const one = { ...chute, needs: { ...chute.needs, gpuCount: 1 } };
  expect(
    await small.deployments.reserve({ deploymentId: id(1), chute: one, onlyServerId: null, driver: 'process' }),
  ).toMatchObject({ kind: 'reserved' });
  expect(
    await small.deployments.reserve({ deploymentId: id(2), chute: one, onlyServerId: null, driver: 'process' }),
  ).toEqual({ kind: 'no_gpus', why: 'every port of the range is taken' });
  expect(await database.knex('deployments').first('port', 'log_port')).toEqual({ port: 40_000, log_port: 40_001 });
});

test('the token is sealed in the row, opens again, and the first permission stays', async () => {
  await reserve(1);
  await stores.deployments.recordPermission(id(1), id(91), 'very-secret-token');
  await stores.deployments.recordPermission(id(1), id(92), 'another');
  const row = await database.knex('deployments').first();
  expect(row.launch_token_sealed.toString('latin1')).not.toContain('very-secret');
  expect(row.config_id).toBe(id(91));
  expect(await stores.deployments.launchMaterial(id(1))).toMatchObject({
    token: 'very-secret-token',
    ports: { primary: 31_000, logging: 31_001 },
    devices: [{ uuid: gpuId(0) }, { uuid: gpuId(1) }],
  });
});

test('facts only add: late and repeated ones change nothing, another instance’s are not taken', async () => {
  await reserve(1);
  await stores.deployments.recordPermission(id(1), id(91), 'token-of-a-launch');
  for (const fact of ['activated', 'verified', 'bound', 'activated'] as const)
    await stores.deployments.recordFact(id(1), fact, id(71));
  const row = await database.knex('deployments').first();
  expect(row).toMatchObject({ status: 'active', active: true, stub: false, instance_id: id(71) });
  await stores.deployments.recordFact(id(1), 'bound', id(72));
  expect(await database.knex('deployments').first()).toEqual(row);
  // The driver's answer may come after the activation.
  await stores.deployments.recordStarted(id(1), { driver: 'podman', containerName: 'c' }, '127.0.0.1');
  expect(await database.knex('deployments').first()).toMatchObject({ status: 'active', host: '127.0.0.1' });
});

test('forgetting frees the GPUs and leaves the audit, once; what was never permitted leaves none', async () => {
  await reserve(1);
  await stores.deployments.recordPermission(id(1), id(91), 'token-of-a-launch');
  await stores.deployments.markTerminating(id(1), 'process_exited');
  await stores.deployments.markTerminating(id(1), 'operator_requested');
  expect(await holders()).toHaveLength(2); // not free before it is gone
  await stores.deployments.forget(id(1));
  await stores.deployments.forget(id(1));
  expect(await holders()).toEqual([]);
  expect(await database.knex('deployments')).toEqual([]);
  const [audit, ...more] = await database.knex('deployment_audit');
  expect(more).toEqual([]);
  expect(audit).toMatchObject({
    deployment_id: id(1),
    server_id: SERVER_ID,
    version: VERSION,
    gpus: [gpuId(0), gpuId(1)],
    removal_code: 'process_exited',
  });
  await reserve(2);
  await stores.deployments.forget(id(2));
  expect(await database.knex('deployment_audit')).toHaveLength(1);
});

test('a server with a deployment on it cannot be deleted, and health never revives one that is being removed', async () => {
  await reserve(1);
  await expect(stores.servers.remove(SERVER_ID)).rejects.toThrow(/foreign key/);
  expect(await stores.servers.setHealth(SERVER_ID, false)).toBe('unknown');
  expect(await stores.servers.setHealth(SERVER_ID, true)).toBe('ready');
  await stores.servers.markRemoving(SERVER_ID);
  expect(await stores.servers.setHealth(SERVER_ID, true)).toBeNull();
});

test('lists: what is not named any more is forgotten, bans stay, an update lifts them, first sight is kept', async () => {
  await database.knex('chutes').update({ ban_reason: 'slow' });
  await stores.remote.replaceChutes([{ chute_id: CHUTE_ID, version: VERSION, name: 'renamed', cords: [] }]);
  expect(await stores.remote.chute(CHUTE_ID)).toMatchObject({
    name: 'renamed',
    hasCords: false,
    needs: { isBanned: true, gpuCount: 1 },
  });
  await stores.remote.putChute({ chute_id: CHUTE_ID, version: VERSION, name: 'again' });
  expect(await stores.remote.chute(CHUTE_ID)).toMatchObject({ needs: { isBanned: false } });
  await stores.remote.replaceInstances([{ instance_id: id(1), chute_id: CHUTE_ID, config_id: id(9), active: false }]);
  const [before] = await stores.remote.instances();
  await stores.remote.replaceInstances([
    {
      instance_id: id(1),
      chute_id: CHUTE_ID,
      config_id: id(9),
      active: true,
      last_verified_at: '2026-01-01T00:00:00Z',
    },
  ]);
  expect(await stores.remote.instances()).toEqual([{ ...before, isActive: true, isVerified: true }]);
  await stores.remote.replaceInstances([]);
  await stores.remote.replaceChutes([]);
  expect([await stores.remote.instances(), await stores.remote.chutes()]).toEqual([[], []]);
});
