import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { LogEvent, LogFile } from './log-file.ts';
import { LOG_NAME } from './log-file.ts';
import type { CheckSignature } from './chutes-signature.ts';

const MOST_BACKFILL = 10_000;
const MOST_READERS = 32;
/** A reader this far behind is cut: it can come back and backfill. */
const MOST_UNSENT_BYTES = 1024 * 1024;

export interface LogServerOptions {
  logs: LogFile;
  checkSignature: CheckSignature;
  keepAliveMs?: number;
}

/** Clear HTTP beside the instance (spec/sdk-and-runtime.md §3.13); everything but `/_alive` is signed, purpose `chutes`. */
export function createLogServer({ logs, checkSignature, keepAliveMs = 15_000 }: LogServerOptions): Server {
  let readers = 0;
  return createServer({ headersTimeout: 10_000, requestTimeout: 10_000 }, (req, res) => {
    const { pathname, searchParams } = new URL(req.url ?? '/', 'http://instance');
    if (req.method !== 'GET') return json(res, 405, { detail: 'Method Not Allowed' });
    if (pathname === '/_alive') return json(res, 200, { alive: true });
    const refusal = checkSignature(req.headers);
    if (refusal) return json(res, 401, { detail: refusal });
    if (pathname === '/')
      return json(res, 200, {
        service: 'canopy instance logs',
        endpoints: ['/logs', '/logs/read/{name}', '/logs/stream'],
      });
    if (pathname === '/logs') return json(res, 200, { logs: logs.list() });
    if (pathname === '/logs/stream') {
      const backfill = countOf(searchParams.get('backfill') ?? '0');
      if (backfill === null) return json(res, 400, { detail: `backfill must be between 0 and ${MOST_BACKFILL}` });
      if (readers >= MOST_READERS) return json(res, 429, { detail: `at most ${MOST_READERS} readers at a time` });
      readers++;
      res.once('close', () => readers--);
      return stream(req, res, logs, backfill, keepAliveMs);
    }
    const name = /^\/logs\/read\/([^/]+)$/.exec(pathname)?.[1];
    if (name !== undefined) return read(res, logs, name, searchParams.get('lines'));
    json(res, 404, { detail: 'Not Found' });
  });
}

function read(res: ServerResponse, logs: LogFile, name: string, lines: string | null): void {
  if (!/^(current|[1-4])$/.test(name)) return json(res, 400, { detail: 'name must be current, 1, 2, 3 or 4' });
  const count = countOf(lines ?? '1000');
  if (count === null) return json(res, 400, { detail: `lines must be between 0 and ${MOST_BACKFILL}` });
  const found = logs.tail(name, count);
  if (!found) return json(res, 404, { detail: 'no such log' });
  const fileName = name === 'current' ? LOG_NAME : `${LOG_NAME}.${name}`;
  res.writeHead(200, {
    'content-type': 'text/plain; charset=utf-8',
    'x-filename': fileName,
    'x-lines-returned': String(found.length),
  });
  res.end(found.map((line) => `${line}\n`).join(''));
}

function stream(req: IncomingMessage, res: ServerResponse, logs: LogFile, backfill: number, keepAliveMs: number): void {
  const send = (data: object): void => {
    if (res.writableLength > MOST_UNSENT_BYTES) return void res.destroy();
    res.write(`data: ${JSON.stringify(data)}\n\n`);
  };
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  send({ event: 'connected', filename: LOG_NAME });
  // No await between the two: a line is either in the backfill or comes through the subscription, never both or neither.
  for (const line of logs.tail('current', backfill) ?? []) res.write(`data: ${JSON.stringify({ log: line })}\n\n`);
  const end = logs.subscribe((event: LogEvent) =>
    send(event.kind === 'line' ? { log: event.line } : { event: 'file_rotated' }),
  );
  const keepAlive = setInterval(() => res.write('.\n\n'), keepAliveMs);
  res.once('close', () => {
    clearInterval(keepAlive);
    end();
  });
  req.resume();
}

function countOf(text: string): number | null {
  const count = /^[0-9]{1,5}$/.test(text) ? Number(text) : Number.NaN;
  return count <= MOST_BACKFILL ? count : null;
}

function json(res: ServerResponse, status: number, body: object): void {
  res.writeHead(status, { 'content-type': 'application/json' });
  res.end(JSON.stringify(body));
}
