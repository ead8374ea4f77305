import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Router } from 'express';
import { createLogger } from '../../activities/clients/log.ts';
import { createApp } from './app.ts';
import { jsonBodyOf, rawBody, rawBodyOf } from './raw-body.ts';

const LIMIT = 200_000;
let dir: string;
let server: Server;
let port: number;
const handled: string[] = [];
const sockets: Socket[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'canopy-body-'));
  const echo = (name: string) => async (_req: unknown, res: Parameters<Parameters<Router['post']>[1]>[1]) => {
    handled.push(name);
    const { sha256, sizeBytes, file } = rawBodyOf(res);
    const stored = file
      ? createHash('sha256')
          .update(await readFile(file))
          .digest('hex')
      : null;
    res.json({ sha256, sizeBytes, stored });
  };
  const router = Router()
    .post('/memory', rawBody({ limitBytes: LIMIT, withinMs: 300 }), echo('memory') as never)
    .post('/file', rawBody({ limitBytes: LIMIT, withinMs: 300, spoolDir: dir }), echo('file') as never)
    .post('/json', rawBody({ limitBytes: LIMIT }), (_req, res) => void res.json({ got: jsonBodyOf(res) }));
  server = createServer(createApp({ program: 'test', log: createLogger('test', 'silent'), routers: [router] })).listen(
    0,
    '127.0.0.1',
  );
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await rm(dir, { recursive: true, force: true });
});

/** A client that writes what it likes; resolves with all it was sent, up to the end of one answer's head and body. */
function raw(): { socket: Socket; answer: Promise<string> } {
  const socket = connect(port, '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => {});
  const answer = new Promise<string>((resolve) => {
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
      if (/\r\n\r\n\{.*\}$/s.test(text)) resolve(text);
    });
    socket.once('close', () => resolve(text));
  });
  return { socket, answer };
}
const emptied = async (): Promise<void> => {
  while ((await readdir(dir)).length > 0) await new Promise((resolve) => setTimeout(resolve, 10));
};

test.each(['memory', 'file'])('%s: the hash is of the bytes as sent, however they were cut', async (kind) => {
  const body = Buffer.from('{"a":  1,\n "ü": "x"}'.padEnd(150_000));
  const { socket, answer } = raw();
  socket.write(`POST /${kind} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n`);
  for (const at of [0, 7, 100_000]) {
    const part = body.subarray(at, at === 0 ? 7 : at === 7 ? 100_000 : undefined);
    socket.write(`${part.length.toString(16)}\r\n`);
    socket.write(part);
    socket.write('\r\n');
  }
  socket.write('0\r\n\r\n');
  const sha256 = createHash('sha256').update(body).digest('hex');
  expect(JSON.parse((await answer).split('\r\n\r\n')[1] ?? '')).toEqual({
    sha256,
    sizeBytes: body.length,
    stored: kind === 'file' ? sha256 : null,
  });
  await emptied();
});

test.each(['memory', 'file'])(
  '%s: past the limit the client reads a 413, said or not, and nothing is left',
  async (kind) => {
    for (const head of [`content-length: ${LIMIT + 1}`, 'transfer-encoding: chunked']) {
      const { socket, answer } = raw();
      socket.write(`POST /${kind} HTTP/1.1\r\nhost: x\r\n${head}\r\n\r\n`);
      if (head.startsWith('transfer')) socket.write(`${(LIMIT * 2).toString(16)}\r\n${'x'.repeat(LIMIT * 2)}`);
      expect(await answer).toMatch(/^HTTP\/1\.1 413 [\s\S]*"detail":"body is larger/);
    }
    expect(handled.filter((name) => name === kind)).toHaveLength(1);
    await emptied();
  },
);

test.each(['memory', 'file'])('%s: a slow client reads a 408', async (kind) => {
  const { socket, answer } = raw();
  socket.write(`POST /${kind} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc`);
  const text = await answer;
  expect(text).toMatch(/^HTTP\/1\.1 408 [\s\S]*"detail":"body not received within 0.3 s"/);
  await emptied();
});

test('a body cut short never reaches the handler', async () => {
  const before = handled.length;
  const { socket, answer } = raw();
  socket.write('POST /file HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc');
  while ((await readdir(dir)).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  socket.destroy();
  expect(await answer).toBe('');
  await emptied();
  expect(handled).toHaveLength(before);
});

test('what is no JSON is a 422', async () => {
  const post = async (body: string) => {
    const answer = await fetch(`http://127.0.0.1:${port}/json`, { method: 'POST', body });
    return [answer.status, await answer.json()];
  };
  expect(await post('{"a":1}')).toEqual([200, { got: { a: 1 } }]);
  expect(await post('{')).toEqual([
    422,
    { detail: [{ type: 'json_invalid', loc: ['body'], msg: 'body is not valid JSON' }] },
  ]);
  expect((await post(''))[0]).toBe(422);
});
