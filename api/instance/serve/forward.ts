import { request, type ClientRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { pipeline } from 'node:stream';
import { HOP_BY_HOP, namedByConnection } from '../../../workflows/domain/protocol/hop-by-hop.ts';
import { RUNTIME_HEADER, RUNTIME_REFUSED } from '../../../workflows/domain/protocol/canopy-transport.ts';

const CLIENT_GONE = 499;

/**
 * Sends a request to the chute on loopback and relays the answer as it comes: bytes, back-pressure and breaks both ways.
 * A caller who leaves ends the chute's work at once; a chute that dies mid-answer breaks the connection, so that a cut
 * stream never looks like a finished one. Resolves with the status for the books, 499 when the caller left.
 */
export function forward(req: IncomingMessage, res: ServerResponse, port: number): Promise<number> {
  return new Promise((resolve) => {
    const upstream = request({
      host: '127.0.0.1',
      port,
      method: req.method,
      path: req.url,
      headers: headersFor(req, port),
      agent: false, // a kept connection may be closed by the chute while a request that must not be repeated is on its way
    });
    let status = 502;
    let isAnswered = false;
    res.once('close', () => {
      if (res.writableFinished) return resolve(status);
      upstream.destroy();
      resolve(isAnswered && upstream.errored ? 502 : CLIENT_GONE);
    });
    upstream.once('response', (answer) => {
      isAnswered = true;
      status = answer.statusCode ?? 502;
      relay(answer, res, upstream);
    });
    upstream.once('error', () => {
      if (isAnswered || res.destroyed) return; // the answer's own stream tells
      status = 502;
      reject(res, 502, 'ChuteUnreachable', 'the chute did not answer');
    });
    // An early answer (413, 401) may leave the body unread: that is the chute's right, not a fault.
    pipeline(req, upstream, () => {});
  });
}

function relay(answer: IncomingMessage, res: ServerResponse, upstream: ClientRequest): void {
  res.writeHead(answer.statusCode ?? 502, answer.statusMessage ?? '', forwardable(answer.rawHeaders, [RUNTIME_HEADER]));
  res.flushHeaders();
  pipeline(answer, res, (err) => {
    if (err) upstream.destroy(err);
  });
}

function headersFor(req: IncomingMessage, port: number): string[] {
  const forwarded = ['host', `127.0.0.1:${port}`, ...forwardable(req.rawHeaders, ['authorization', 'host'])];
  const hasBody = req.headers['transfer-encoding'] !== undefined;
  return hasBody ? [...forwarded, 'transfer-encoding', 'chunked'] : forwarded;
}

/** Name, value, name, value … as they came: repeated headers stay repeated. */
function forwardable(raw: readonly string[], except: readonly string[] = []): string[] {
  const listed = namedByConnection(
    raw.filter((_, index) => index % 2 === 1 && raw[index - 1]?.toLowerCase() === 'connection').join(','),
  );
  return raw.flatMap((name, index) => {
    const lower = name.toLowerCase();
    if (index % 2 === 1 || HOP_BY_HOP.has(lower) || listed.has(lower) || except.includes(lower)) return [];
    return [name, raw[index + 1] ?? ''];
  });
}

/** An answer of the runtime itself, marked so that nobody takes it for the chute's. */
export function reject(
  res: ServerResponse,
  status: number,
  error: string,
  detail: string,
  headers: Record<string, string> = {},
): void {
  if (res.headersSent || res.destroyed) return;
  res.writeHead(status, { 'content-type': 'application/json', [RUNTIME_HEADER]: RUNTIME_REFUSED, ...headers });
  res.end(JSON.stringify({ error, detail }));
}
