import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { decideTarget, type Target } from '../../workflows/domain/routing/host-target.ts';
import { admitCall } from './admit-call.ts';
import { attemptCall } from './attempt-call.ts';
import { CallRefused, sendCallError, type CallDeps } from './call.ts';
import { listModels } from './models.ts';
import type { Proxy } from './proxy.ts';

export interface GatewayDeps extends CallDeps {
  api: Proxy;
  sockets: Proxy;
  /** false until the routing table was read once */
  isReady: () => boolean;
  /** what `/_gateway/health` tells, beside `ready` */
  health: () => Record<string, unknown>;
}

/** The front door: one listener for everything the network answers, decided per request (spec/validator-api.md §3.1). */
export function createGateway(deps: GatewayDeps): Server {
  const server = createServer({
    requestTimeout: 0,
    headersTimeout: 20_000,
    keepAliveTimeout: 65_000,
    maxHeaderSize: 32_768,
    noDelay: true,
  });
  server.on('request', (req: IncomingMessage, res: ServerResponse) => void handle(req, res, deps));
  server.on('upgrade', (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    deps.metrics.requests.inc({ target: 'upgrade', status: '101' });
    deps.sockets.upgrade(req, socket, head);
  });
  server.on('clientError', (err: Error & { code?: string }, socket: Duplex) => {
    if (!socket.writable || err.code === 'ECONNRESET') return void socket.destroy();
    const status =
      err.code === 'HPE_HEADER_OVERFLOW'
        ? '431 Request Header Fields Too Large'
        : err.code === 'ERR_HTTP_REQUEST_TIMEOUT'
          ? '408 Request Timeout'
          : '400 Bad Request';
    const body = JSON.stringify({ detail: status.slice(4).toLowerCase() });
    socket.end(
      `HTTP/1.1 ${status}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
    );
  });
  return server;
}

async function handle(req: IncomingMessage, res: ServerResponse, deps: GatewayDeps): Promise<void> {
  const path = pathOf(req.url);
  const target: Target = decideTarget(
    { host: req.headers.host ?? '', method: req.method ?? 'GET', path, isUpgrade: false },
    (label) => deps.table.bySlug(label) !== null,
  );
  res.once('close', () => deps.metrics.requests.inc({ target: target.kind, status: String(res.statusCode) }));
  try {
    await serve(req, res, target, path, deps);
  } catch (err) {
    if (err instanceof CallRefused) return sendCallError(res, err.error, path.startsWith('/v1/'));
    deps.log.error({ event: 'request.failed', method: req.method, target: target.kind, err }, 'request.failed');
    sendCallError(res, { code: 'internal', message: 'internal error' }, path.startsWith('/v1/'));
  }
}

async function serve(
  req: IncomingMessage,
  res: ServerResponse,
  target: Target,
  path: string,
  deps: GatewayDeps,
): Promise<void> {
  switch (target.kind) {
    case 'api':
      return deps.api.forward(req, res);
    case 'sockets':
      return deps.sockets.forward(req, res);
    case 'own':
      return serveOwn(req, res, path, deps);
    case 'aggregator':
    case 'chute':
    case 'direct':
      if (!deps.isReady())
        throw new CallRefused({ code: 'service_unavailable', message: 'The gateway is starting.', retryAfterS: 2 });
      if (target.kind === 'aggregator' && req.method === 'GET') {
        if (path === '/v1/models') return sendJson(res, 200, listModels(deps.table));
        throw new CallRefused({ code: 'not_found', message: `Nothing is at GET ${path}.` });
      }
      return serveCall(req, res, target, deps);
  }
}

async function serveCall(
  req: IncomingMessage,
  res: ServerResponse,
  target: Parameters<typeof admitCall>[2],
  deps: GatewayDeps,
): Promise<void> {
  const call = await admitCall(req, res, target, new URL(req.url ?? '/', 'http://gateway'), deps);
  try {
    await attemptCall(res, call, deps);
  } finally {
    call.giveBack();
  }
}

/** For the operator on the machine itself, never through a proxy. */
async function serveOwn(req: IncomingMessage, res: ServerResponse, path: string, deps: GatewayDeps): Promise<void> {
  const peer = req.socket.remoteAddress ?? '';
  const isLocal = peer === '::1' || /^(::ffff:)?127\./.test(peer);
  if (!isLocal || req.headers['x-forwarded-for'] !== undefined)
    return sendJson(res, 403, { detail: 'for the inside only' });
  if (path === '/_gateway/health')
    return sendJson(res, deps.isReady() ? 200 : 503, { ready: deps.isReady(), ...deps.health() });
  if (path === '/_gateway/metrics')
    return void res
      .writeHead(200, { 'content-type': deps.metrics.registry.contentType })
      .end(await deps.metrics.render());
  return sendJson(res, 404, { detail: 'Not Found' });
}

function sendJson(res: ServerResponse, status: number, value: unknown): void {
  const body = JSON.stringify(value);
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }).end(body);
}

/** Without query; `//x` stays a path. */
function pathOf(url: string | undefined): string {
  const end = url?.search(/[?#]/) ?? -1;
  return (end < 0 ? url : url?.slice(0, end)) || '/';
}
