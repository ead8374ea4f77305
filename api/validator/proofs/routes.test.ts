import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { createLogger } from '../../../activities/clients/log.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { insertNode } from '../../../workers/testing/launch-fixture.ts';
import { createApp } from '../../http/app.ts';
import { insertMiner, listen } from '../testing/test-api.ts';
import { proofRoutes } from './routes.ts';

/** More than sockets buffer between a server and a client that does not read. */
const SIZE_BYTES = 64 * 1024 ** 2;
const DOWNLOAD_MS = 4_000;
const chunk = Buffer.alloc(64 * 1024);

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let api: Awaited<ReturnType<typeof listen>>;
let path: string;
let streams: Readable[] = [];
const sockets: Socket[] = [];
const blobs = {
  sizeBytes: async () => SIZE_BYTES,
  stream: async () => {
    let left = SIZE_BYTES / chunk.length;
    const stream = new Readable({ read: () => void stream.push(left-- > 0 ? chunk : null) });
    streams.push(stream);
    return stream;
  },
};

beforeAll(async () => {
  database = await createTestDatabase('validator');
  const miner = await insertMiner(database.knex);
  const record = { key: 'k', sha256: 'a'.repeat(64), sizeBytes: SIZE_BYTES, binding: {} };
  const gpu = { bytesFilled: 1, samplesChecked: 1, verified: true, reason: null, record };
  const uuid = await insertNode(database.knex, miner.address);
  await database
    .knex('nodes')
    .where({ uuid })
    .update({ proof_summary: JSON.stringify({ trustLevel: 'povw', gpus: [{ ...gpu, gpuUuid: uuid }] }) });
  path = `/nodes/${uuid}/proof`;
  const routers = [proofRoutes({ db: database.knex, blobs, downloadMs: DOWNLOAD_MS })];
  api = await listen(createApp({ program: 'test', log: createLogger('test', 'error'), routers }));
});
const ended = (those: Readable[]) =>
  Promise.all(those.filter(({ closed }) => !closed).map((stream) => once(stream, 'close').catch(() => {})));
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await ended(streams);
  streams = [];
});
afterAll(async () => {
  api.close();
  await database.drop();
});

const read = (from: string, method = 'GET') =>
  fetch(`${api.url}${path}`, { method, headers: { 'x-forwarded-for': from } });
/** Asks and never reads. */
async function stuck(from: string): Promise<Socket> {
  const socket = connect(Number(new URL(api.url).port), '127.0.0.1');
  sockets.push(socket);
  await once(socket, 'connect');
  const before = streams.length;
  socket.pause().write(`GET ${path} HTTP/1.1\r\nhost: a\r\nx-forwarded-for: ${from}\r\n\r\n`);
  while (streams.length === before) await new Promise((resolve) => setImmediate(resolve));
  return socket;
}

test('one address has two downloads, all together eight, and who does not read makes room when the time is over', async () => {
  for (const from of ['10.0.0.1', '10.0.0.2', '10.0.0.3']) {
    await stuck(from);
    await stuck(from);
  }
  const third = await read('10.0.0.1');
  expect([third.status, third.headers.get('retry-after')]).toEqual([429, '5']);
  const other = await read('10.0.0.4');
  expect([other.status, (await other.arrayBuffer()).byteLength]).toEqual([200, SIZE_BYTES]);
  await stuck('10.0.0.4');
  await stuck('10.0.0.4');
  expect((await read('10.0.0.5')).status).toBe(429);
  const open = streams.filter((stream) => !stream.destroyed);
  expect(open).toHaveLength(8);
  await ended(open);
  const again = await read('10.0.0.1');
  expect([again.status, (await again.arrayBuffer()).byteLength]).toEqual([200, SIZE_BYTES]);
}, 30_000);

test('HEAD tells the size and reads nothing, also while every place is taken', async () => {
  for (const from of ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4']) {
    await stuck(from);
    await stuck(from);
  }
  const before = streams.length;
  const answer = await read('10.0.0.9', 'HEAD');
  expect([answer.status, answer.headers.get('content-length')]).toEqual([200, String(SIZE_BYTES)]);
  expect(streams).toHaveLength(before);
}, 30_000);

test('a reader that leaves frees its place', async () => {
  const leaving = [await stuck('10.0.1.1'), await stuck('10.0.1.1')];
  expect((await read('10.0.1.1')).status).toBe(429);
  for (const socket of leaving) socket.destroy();
  await ended(streams);
  const next = await read('10.0.1.1');
  expect(next.status).toBe(200);
  await next.body?.cancel();
}, 30_000);
