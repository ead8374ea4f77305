import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { once } from 'node:events';
import pg from 'pg';
import { Registry } from 'prom-client';
import { io, type Socket } from 'socket.io-client';
import type { Hotkey } from '../../activities/clients/hotkey.ts';
import { createLogger } from '../../activities/clients/log.ts';
import { AuthStore } from '../../activities/validator/auth/auth-store.ts';
import { EventReader } from '../../activities/validator/events/event-reader.ts';
import { publishToMiners, publishToPublic } from '../../activities/validator/events/event-outbox.ts';
import { createTestDatabase } from '../../workers/testing/database.ts';
import { serve } from '../http/serve.ts';
import { insertMiner, insertUser } from '../validator/testing/test-api.ts';
import { authenticateMiner } from './authenticate-miner.ts';
import { createSockets } from './create-sockets.ts';
import { EventTail } from './event-tail.ts';

const log = createLogger('test', 'silent');
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let program: { url: string; tail: EventTail; stop: () => Promise<void> };
let alice: Hotkey;
let bob: Hotkey;
const open: Socket[] = [];

async function startProgram({ graceMs = 30_000, pollMs = 60_000 } = {}) {
  const store = new AuthStore(database.knex);
  const tail: EventTail = new EventTail({
    databaseUrl: database.url,
    log,
    pollMs,
    onEvent: (event) => sockets.deliver(event),
  });
  const sockets = createSockets({
    log,
    registry: new Registry(),
    graceMs,
    authenticate: (message) => authenticateMiner(store, 64, message, Date.now()),
    isHealthy: () => tail.isLive(),
  });
  tail.start();
  const served = await serve(sockets.onRequest, {
    program: 'sockets',
    host: '127.0.0.1',
    port: 0,
    log,
    onUpgrade: sockets.onUpgrade,
    beforeDrain: async () => {
      await tail.stop();
      await sockets.close();
    },
    close: async () => {},
  });
  const url = `http://127.0.0.1:${served.port}`;
  await until(async () => (await fetch(`${url}/health`)).status === 200);
  return { url, tail, stop: served.stop };
}

async function until(holds: () => boolean | Promise<boolean>, withinMs = 15_000): Promise<void> {
  const end = Date.now() + withinMs;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error('the condition never held');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

beforeAll(async () => {
  database = await createTestDatabase('validator');
  [alice, bob] = [await insertMiner(database.knex), await insertMiner(database.knex)];
  program = await startProgram();
});
afterEach(() => {
  for (const socket of open.splice(0)) socket.disconnect();
});
afterAll(async () => {
  await program.stop();
  await database.drop();
});

type Message = { reason: string; data: Record<string, unknown>; filter_recipients?: string[] };
function connect(path = '/socket.io/', options: object = {}, url = program.url): { socket: Socket; got: Message[] } {
  const socket = io(url, { path, transports: ['websocket'], reconnection: false, forceNew: true, ...options });
  open.push(socket);
  const got: Message[] = [];
  socket.on('miner_broadcast', (message: Message) => got.push(message));
  socket.on('events', (message: Message) => got.push(message));
  return { socket, got };
}
const headersOf = (hotkey: Hotkey, nonce?: string): Record<string, string> => {
  const headers = hotkey.clientHeaders({ purpose: 'sockets' }, nonce);
  // as miners send them: capitals in the names
  return {
    'X-Chutes-Hotkey': headers['x-chutes-hotkey'] ?? '',
    'X-Chutes-Nonce': headers['x-chutes-nonce'] ?? '',
    'X-Chutes-Signature': headers['x-chutes-signature'] ?? '',
  };
};
/** Sends `authenticate` and returns the arguments of the event that answers it. */
function answered(socket: Socket, event: string, message: unknown): Promise<unknown[]> {
  const answer = once(socket as never, event);
  socket.emit('authenticate', message);
  return answer;
}
async function join(hotkey: Hotkey, url = program.url) {
  const connection = connect('/socket.io/', {}, url);
  const answer = await answered(connection.socket, 'auth_success', headersOf(hotkey));
  expect(answer).toEqual([{ message: 'Authenticated' }]);
  return connection;
}
const imageCreated = (id: string) => publishToMiners(database.knex, 'image_created', { image_id: id });
const reasons = (got: Message[], of: string): unknown[] =>
  got.filter((message) => Object.values(message.data).includes(of));

test('a targeted message reaches every session of its hotkey and nobody else; a broadcast only the authenticated', async () => {
  const [first, second, other] = [await join(alice), await join(alice), await join(bob)];
  const stranger = connect();
  await once(stranger.socket as never, 'connect');
  await publishToMiners(
    database.knex,
    'instance_verified',
    { instance_id: 't-1', miner_hotkey: alice.address },
    { to: [alice.address], message: 'hi' },
  );
  await imageCreated('b-1');
  await until(() => [first, second, other].every(({ got }) => reasons(got, 'b-1').length === 1));
  for (const { got } of [first, second])
    expect(got[0]).toEqual({
      reason: 'instance_verified',
      data: { instance_id: 't-1', miner_hotkey: alice.address },
      message: 'hi',
      filter_recipients: [alice.address],
    });
  expect(reasons(other.got, 't-1')).toEqual([]);
  expect(stranger.got).toEqual([]);
});

test('the late disconnect of an old session takes nothing from the new one', async () => {
  const old = await join(alice);
  const fresh = await join(alice);
  old.socket.disconnect();
  await publishToMiners(
    database.knex,
    'instance_verified',
    { instance_id: 't-2', miner_hotkey: alice.address },
    { to: [alice.address] },
  );
  await until(() => reasons(fresh.got, 't-2').length === 1);
  expect(fresh.socket.connected).toBe(true);
});

const stale = String(Math.floor(Date.now() / 1000) - 700);
test.each<[string, () => unknown]>([
  ['nothing', () => undefined],
  ['text', () => 'hello'],
  ['a list', () => [1, 2]],
  ['objects for strings', () => ({ 'X-Chutes-Hotkey': {}, 'X-Chutes-Nonce': [], 'X-Chutes-Signature': null })],
  ['a stale nonce', () => headersOf(alice, stale)],
  ['another purpose', () => alice.clientHeaders({ purpose: 'miner' })],
  ["another's name", () => ({ ...headersOf(bob), 'X-Chutes-Hotkey': alice.address })],
])('authenticating with %s fails and disconnects', async (_, message) => {
  const { socket } = connect();
  const gone = once(socket as never, 'disconnect');
  const failed = await answered(socket, 'auth_failed', message());
  expect(failed).toEqual([{ error: expect.any(String) }]);
  await gone;
});

test('a user who is no miner fails; a message before authentication disconnects', async () => {
  const { hotkey } = await insertUser(database.knex);
  const { socket } = connect();
  const gone = once(socket as never, 'disconnect');
  await answered(socket, 'auth_failed', headersOf(hotkey));
  await gone;
  const eager = connect();
  const dropped = once(eager.socket as never, 'disconnect');
  eager.socket.emit('miner_message', {});
  await dropped;
  expect(eager.socket.connected).toBe(false);
});

test('a message too large ends the connection', async () => {
  const { socket } = await join(alice);
  const gone = once(socket as never, 'disconnect');
  socket.emit('miner_message', 'x'.repeat(100_000));
  await gone;
  expect(socket.connected).toBe(false);
});

test('public events need no key and carry no miner message, by path and by host, also over polling', async () => {
  const byPath = connect('/events/socket.io/', { transports: ['polling'] });
  const byHost = connect('/socket.io/', { extraHeaders: { host: 'events.canopy.example' } });
  await Promise.all([once(byPath.socket as never, 'connect'), once(byHost.socket as never, 'connect')]);
  const miner = await join(alice);
  await imageCreated('p-0');
  await publishToPublic(database.knex, 'bounty_change', { chute_id: 'p-1', bounty: 5 }, 'more');
  for (const { got } of [byPath, byHost]) {
    await until(() => reasons(got, 'p-1').length === 1);
    expect(got).toEqual([{ reason: 'bounty_change', data: { chute_id: 'p-1', bounty: 5 }, message: 'more' }]);
  }
  expect(reasons(miner.got, 'p-1')).toEqual([]);
});

test('unauthenticated sockets are dropped; what was published before the start is not replayed', async () => {
  await imageCreated('old');
  const hasty = await startProgram({ graceMs: 200 });
  try {
    const idle = connect('/socket.io/', {}, hasty.url);
    const member = await join(alice, hasty.url);
    await once(idle.socket as never, 'disconnect');
    await imageCreated('new');
    await until(() => reasons(member.got, 'new').length === 1);
    expect(reasons(member.got, 'old')).toEqual([]);
    expect(member.socket.connected).toBe(true);
  } finally {
    await hasty.stop();
  }
});

test('a killed database connection loses no event', async () => {
  const miner = await join(alice);
  for (const id of ['k-1', 'k-2', 'k-3']) {
    const killed = await database.knex.raw(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'canopy-sockets-tail' and datname = current_database()",
    );
    expect(killed.rows.length).toBeGreaterThan(0);
    await imageCreated(id); // while nobody listens
    await until(() => reasons(miner.got, id).length === 1);
  }
  expect(program.tail.isLive()).toBe(true);
  expect((await fetch(`${program.url}/health`)).status).toBe(200);
});

test('an event commits late, after a higher number was sent: it is sent too, each exactly once', async () => {
  const client = new pg.Client(database.url);
  await client.connect();
  const reader = new EventReader();
  const ids = async (): Promise<unknown[]> =>
    (await reader.next(client, Date.now())).map(({ payload }) => payload.data.image_id);
  try {
    expect(await ids()).toEqual([]);
    const slow = await database.knex.transaction();
    await publishToMiners(slow, 'image_created', { image_id: 'late' });
    await imageCreated('early');
    expect(await ids()).toEqual(['early']);
    const rolledBack = await database.knex.transaction();
    await publishToMiners(rolledBack, 'image_created', { image_id: 'never' });
    await rolledBack.rollback();
    await slow.commit();
    await imageCreated('last');
    expect(await ids()).toEqual(['late', 'last']);
    expect(await ids()).toEqual([]);

    const pending = await database.knex.transaction();
    await publishToMiners(pending, 'image_created', { image_id: 'before the start' });
    await imageCreated('after it');
    const late = new EventReader();
    expect(await late.next(client, Date.now())).toEqual([]);
    await pending.commit();
    expect((await late.next(client, Date.now())).map(({ payload }) => payload.data.image_id)).toEqual([
      'before the start',
    ]);
  } finally {
    await client.end();
  }
});

test('more events than one batch arrive in order', async () => {
  const miner = await join(alice);
  await database.knex.raw(
    `insert into events (channel, payload) select 'miner_broadcast', jsonb_build_object('reason', 'image_created', 'data', jsonb_build_object('image_id', n::text)) from generate_series(1, 1200) n`,
  );
  await until(() => miner.got.filter(({ reason }) => reason === 'image_created').length >= 1200);
  const numbers = miner.got.map(({ data }) => Number(data.image_id)).filter(Number.isInteger);
  expect(numbers).toEqual(Array.from({ length: 1200 }, (_, index) => index + 1));
});

test('health is red while the database cannot be read; other paths are 404', async () => {
  const sockets = createSockets({
    log,
    registry: new Registry(),
    authenticate: async () => null,
    isHealthy: () => new EventTail({ databaseUrl: 'postgres://127.0.0.1:1/x', log, onEvent: () => {} }).isLive(),
  });
  const served = await serve(sockets.onRequest, {
    program: 'sockets',
    host: '127.0.0.1',
    port: 0,
    log,
    close: () => sockets.close(),
  });
  expect((await fetch(`http://127.0.0.1:${served.port}/health`)).status).toBe(503);
  await served.stop();
  expect((await fetch(`${program.url}/other`)).status).toBe(404);
  const metrics = await (await fetch(`${program.url}/metrics`)).text();
  expect(metrics).toContain('canopy_socket_events_total{channel="miner_broadcast"');
  expect((await fetch(`${program.url}/metrics`, { headers: { 'x-forwarded-for': '1.2.3.4' } })).status).toBe(404);
});
