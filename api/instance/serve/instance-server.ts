import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Logger } from 'pino';
import { INSTANCE_PATHS, REQUEST_ID_HEADER } from '../../../workflows/domain/protocol/canopy-transport.ts';
import type { TransportIdentity } from '../launch/transport-identity.ts';
import { forward, reject } from './forward.ts';
import { createInstanceMetrics } from './instance-metrics.ts';
import { isPrivateAddress } from './private-address.ts';

/** `starting`: no chute yet. `broken`: it died. Both answer 503, as draining does. */
export type ServingState = 'starting' | 'serving' | 'draining' | 'broken';

export interface Serving {
  sessionSecret: string;
  chuteId: string;
  concurrency: number;
  childPort: number;
}

export interface InstanceServer {
  server: Server;
  /** from here on requests reach the chute */
  open: (serving: Serving) => void;
  /** no new request from here on */
  close: (state: 'draining' | 'broken') => void;
  /** resolves when nothing is in flight, or after `withinMs`, having cut what was left; answers how many that was */
  drain: (withinMs: number) => Promise<number>;
  metrics: () => Promise<{ contentType: string; text: string }>;
}

/** Transport `canopy/1` (workflows/domain/protocol/canopy-transport.ts) in front of the chute's plain HTTP. */
export function createInstanceServer({ identity, log }: { identity: TransportIdentity; log: Logger }): InstanceServer {
  let state: ServingState = 'starting';
  let serving: Serving | null = null;
  let secretDigest: Buffer | null = null;
  const inFlight = new Set<ServerResponse>();
  let onIdle: (() => void) | null = null;
  const metrics = createInstanceMetrics({ chuteId: () => serving?.chuteId ?? '', inFlight: () => inFlight.size });

  const handle = (req: IncomingMessage, res: ServerResponse): void => {
    const path = (req.url ?? '/').split('?')[0];
    if (path === INSTANCE_PATHS.metrics) return showMetrics(req, res, metrics.registry);
    if (!isAuthorized(req, secretDigest))
      return deny(res, 401, 'Unauthorized', 'the session secret is missing or wrong');
    if (path === INSTANCE_PATHS.health) return showHealth(res);
    if (state !== 'serving' || !serving) return denyWhile(res, state);
    if (inFlight.size >= serving.concurrency)
      return deny(res, 429, 'RateLimitExceeded', `instance is at its concurrency of ${serving.concurrency}`);
    void invoke(req, res, serving.childPort);
  };

  const invoke = async (req: IncomingMessage, res: ServerResponse, port: number): Promise<void> => {
    const startedAt = performance.now();
    inFlight.add(res);
    const status = await forward(req, res, port);
    inFlight.delete(res);
    const seconds = (performance.now() - startedAt) / 1000;
    const path = req.url ?? '/';
    metrics.invoked({ path, status, seconds });
    const fields = {
      event: 'invocation',
      requestId: req.headers[REQUEST_ID_HEADER],
      method: req.method,
      path: path.split('?')[0],
      status,
      durationMs: Math.round(seconds * 1000),
    };
    if (status >= 500) log.warn(fields, 'invocation');
    else log.debug(fields, 'invocation');
    if (inFlight.size === 0) onIdle?.();
  };

  const deny = (
    res: ServerResponse,
    status: number,
    error: string,
    detail: string,
    headers: Record<string, string> = {},
  ): void => {
    metrics.rejected(status);
    reject(res, status, error, detail, headers);
  };
  const denyWhile = (res: ServerResponse, now: Exclude<ServingState, 'serving'> | ServingState): void => {
    const error = now === 'starting' ? 'Starting' : now === 'draining' ? 'Draining' : 'ChuteEnded';
    deny(res, 503, error, `instance is ${now}`, { connection: 'close' });
  };
  const showHealth = (res: ServerResponse): void => {
    const ready = state === 'serving';
    res.writeHead(ready ? 200 : 503, { 'content-type': 'application/json' });
    res.end(
      JSON.stringify({
        ready,
        in_flight: inFlight.size,
        concurrency: serving?.concurrency ?? 0,
        draining: state === 'draining',
      }),
    );
  };

  const server = createServer(
    {
      key: identity.privateKey,
      cert: identity.certificate,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['http/1.1'],
      headersTimeout: 20_000,
      requestTimeout: 0,
      keepAliveTimeout: 75_000,
      noDelay: true,
    },
    handle,
  );
  server.on('tlsClientError', () => {}); // port scanners; each is counted by nobody
  server.on('clientError', (_err, socket) => socket.destroy());

  return {
    server,
    open: (next) => {
      serving = { ...next, concurrency: Math.max(1, next.concurrency) };
      secretDigest = digest(next.sessionSecret);
      state = 'serving';
    },
    close: (next) => {
      state = next;
    },
    drain: async (withinMs) => {
      if (inFlight.size > 0) {
        let late: NodeJS.Timeout | undefined;
        await new Promise<void>((resolve) => {
          onIdle = resolve;
          late = setTimeout(resolve, withinMs);
        });
        clearTimeout(late);
      }
      const cut = inFlight.size;
      for (const res of inFlight) res.destroy();
      return cut;
    },
    metrics: async () => ({ contentType: metrics.registry.contentType, text: await metrics.registry.metrics() }),
  };
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Compares digests: equal length whatever came, and no early end. */
function isAuthorized(req: IncomingMessage, secretDigest: Buffer | null): boolean {
  const given = /^Bearer (.+)$/.exec(req.headers.authorization ?? '')?.[1] ?? '';
  return secretDigest !== null && timingSafeEqual(digest(given), secretDigest);
}

function showMetrics(
  req: IncomingMessage,
  res: ServerResponse,
  registry: { contentType: string; metrics: () => Promise<string> },
): void {
  if (!isPrivateAddress(req.socket.remoteAddress)) return reject(res, 401, 'Unauthorized', 'go away (internal)');
  registry.metrics().then(
    (text) => res.writeHead(200, { 'content-type': registry.contentType }).end(text),
    () => reject(res, 500, 'InternalError', 'metrics could not be read'),
  );
}
