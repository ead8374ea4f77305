import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect as connectTcp } from 'node:net';
import { PassThrough, type Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { connect as connectTls } from 'node:tls';
import { Pool, type Dispatcher } from 'undici';
import { HOP_BY_HOP, namedByConnection } from '../../workflows/domain/protocol/hop-by-hop.ts';
import { FORWARDED } from './headers.ts';

/** Hands requests to another of our programs exactly as they came, both ways as streams. */
export interface Proxy {
  forward: (req: IncomingMessage, res: ServerResponse) => Promise<void>;
  upgrade: (req: IncomingMessage, socket: Duplex, head: Buffer) => void;
  close: () => Promise<void>;
}

const CONNECT_TIMEOUT_MS = 5_000;

/** Null upstream: nothing is there to hand requests to, each gets a 503. */
export function createProxy(upstream: string | undefined): Proxy {
  const pool = upstream
    ? new Pool(upstream, {
        connect: { timeout: CONNECT_TIMEOUT_MS },
        headersTimeout: 0,
        bodyTimeout: 0,
        allowH2: false,
      })
    : null;
  return {
    forward: (req, res) => (pool ? forward(pool, req, res) : Promise.resolve(unavailable(res))),
    upgrade: (req, socket, head) => upgrade(upstream, req, socket, head),
    close: async () => {
      await pool?.destroy();
    },
  };
}

async function forward(pool: Pool, req: IncomingMessage, res: ServerResponse): Promise<void> {
  const abort = new AbortController();
  res.once('close', () => {
    if (!res.writableFinished) abort.abort();
  });
  const hasBody = req.headers['transfer-encoding'] !== undefined || Number(req.headers['content-length'] ?? 0) > 0;
  // Not `req` itself: an upstream that answers early (413) ends its body, and that must not end the client's connection.
  const body = hasBody ? new PassThrough() : null;
  if (body) {
    req.pipe(body);
    req.once('error', () => body.destroy());
    req.once('close', () => req.complete || body.destroy());
    body.once('error', () => {});
    body.once('close', () => {
      req.unpipe(body);
      req.resume();
    });
  }
  let answer: Dispatcher.ResponseData;
  try {
    answer = await pool.request({
      method: req.method as Dispatcher.HttpMethod,
      path: req.url ?? '/',
      headers: forwardedHeaders(req),
      body,
      signal: abort.signal,
      responseHeaders: 'raw',
    });
  } catch (err) {
    if (abort.signal.aborted) return;
    return unavailable(
      res,
      err instanceof Error && 'code' in err && err.code === 'UND_ERR_CONNECT_TIMEOUT' ? 'timed out' : undefined,
    );
  }
  res.writeHead(answer.statusCode, rawEndToEnd(answer.headers as unknown as Buffer[]));
  // The end of a stream that either side broke off: both are closed, there is nobody left to tell.
  await pipeline(answer.body, res).catch(() => res.destroy());
}

/** Raw names and values, the peer's address in place of whatever a client claimed. */
function forwardedHeaders(req: IncomingMessage): string[] {
  const named = namedByConnection(req.headers.connection);
  const headers: string[] = [];
  for (let at = 0; at < req.rawHeaders.length; at += 2) {
    const name = req.rawHeaders[at] ?? '';
    const lower = name.toLowerCase();
    if (!HOP_BY_HOP.has(lower) && !FORWARDED.has(lower) && !named.has(lower))
      headers.push(name, req.rawHeaders[at + 1] ?? '');
  }
  return [...headers, 'X-Forwarded-For', req.socket.remoteAddress ?? 'unknown'];
}

function rawEndToEnd(raw: readonly (Buffer | string)[]): string[] {
  const kept: string[] = [];
  for (let at = 0; at < raw.length; at += 2) {
    const name = String(raw[at]);
    if (!HOP_BY_HOP.has(name.toLowerCase())) kept.push(name, raw[at + 1]?.toString('latin1') ?? '');
  }
  return kept;
}

function unavailable(res: ServerResponse, why = 'is not reachable'): void {
  if (res.headersSent) return void res.destroy();
  const body = JSON.stringify({ detail: `the service behind this address ${why}` });
  res
    .writeHead(503, {
      'content-type': 'application/json',
      'content-length': body.length,
      'retry-after': '2',
      connection: 'close',
    })
    .end(body);
}

/** A WebSocket's handshake and everything after it, byte for byte over a connection of its own. */
function upgrade(upstream: string | undefined, req: IncomingMessage, client: Duplex, head: Buffer): void {
  const refuse = (): void => {
    const body = JSON.stringify({ detail: 'the service behind this address is not reachable' });
    client.end(
      `HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\nretry-after: 2\r\nconnection: close\r\n\r\n${body}`,
    );
  };
  client.on('error', () => {}); // 'close' follows
  if (!upstream) return refuse();
  const { protocol, hostname, port } = new URL(upstream);
  const options = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || (protocol === 'https:' ? 443 : 80)) };
  const server = protocol === 'https:' ? connectTls({ ...options, servername: hostname }) : connectTcp(options);
  server.setNoDelay(true);
  const late = setTimeout(() => server.destroy(), CONNECT_TIMEOUT_MS);
  let isConnected = false;
  server.on('error', () => {}); // 'close' follows
  server.once('close', () => {
    clearTimeout(late);
    if (isConnected) client.destroy();
    else refuse();
  });
  client.once('close', () => server.destroy());
  server.once(protocol === 'https:' ? 'secureConnect' : 'connect', () => {
    clearTimeout(late);
    isConnected = true;
    const lines = [`${req.method} ${req.url} HTTP/1.1`];
    for (let at = 0; at < req.rawHeaders.length; at += 2) {
      if (!FORWARDED.has((req.rawHeaders[at] ?? '').toLowerCase()))
        lines.push(`${req.rawHeaders[at]}: ${req.rawHeaders[at + 1]}`);
    }
    lines.push(`X-Forwarded-For: ${req.socket.remoteAddress ?? 'unknown'}`, '', '');
    server.write(lines.join('\r\n'), 'latin1');
    if (head.length > 0) server.write(head);
    server.pipe(client);
    client.pipe(server);
  });
}
