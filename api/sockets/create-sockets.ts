import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { Duplex } from 'node:stream';
import { collectDefaultMetrics, Counter, Gauge, type Registry } from 'prom-client';
import { Server, type ServerOptions } from 'socket.io';
import type { Logger } from '../../activities/clients/log.ts';
import type { OutboxEvent } from '../../activities/validator/events/event-reader.ts';
import { MINER_CHANNEL, PUBLIC_CHANNEL } from '../../workflows/domain/protocol/events.ts';
import { attachMinerNamespace, MINERS_ROOM, roomOf } from './miner-namespace.ts';

export interface SocketsOptions {
  log: Logger;
  registry: Registry;
  authenticate: (message: unknown) => Promise<string | null>;
  isHealthy: () => boolean;
  graceMs?: number;
}

export interface Sockets {
  onRequest: RequestListener;
  onUpgrade: (req: IncomingMessage, socket: Duplex, head: Buffer) => void;
  deliver: (event: OutboxEvent) => void;
  close: () => Promise<void>;
}

const MINER_PATH = '/socket.io/';
const EVENTS_PATH = '/events/socket.io/';
/** Clients send a handful of header strings; nothing larger has a reason to be here. */
const MAX_MESSAGE_BYTES = 16 * 1024;

/**
 * Both sockets of spec/validator-api.md §4 behind one listener. Host `events.…` means the public one; where there is no DNS,
 * the path `/events/socket.io/` does.
 */
export function createSockets({ log, registry, authenticate, isHealthy, graceMs = 30_000 }: SocketsOptions): Sockets {
  // Socket.IO attaches to a server; this one never listens, so that we can look at the Host first.
  const inner = createServer(
    (_req, res) => void res.writeHead(404, { 'content-type': 'application/json' }).end('{"detail":"Not Found"}'),
  );
  const common: Partial<ServerOptions> = {
    cors: { origin: '*' },
    serveClient: false,
    maxHttpBufferSize: MAX_MESSAGE_BYTES,
    destroyUpgrade: false,
    pingInterval: 20_000,
    pingTimeout: 20_000,
  };
  const miners = new Server(inner, { ...common, path: MINER_PATH });
  const events = new Server(inner, { ...common, path: EVENTS_PATH });
  attachMinerNamespace({ io: miners, log, authenticate, graceMs });

  collectDefaultMetrics({ register: registry });
  const delivered = new Counter({
    name: 'canopy_socket_events_total',
    help: 'Events read from the outbox and sent',
    labelNames: ['channel', 'reason'],
    registers: [registry],
  });
  const openSockets = new Gauge({
    name: 'canopy_sockets',
    help: 'Open sockets',
    labelNames: ['kind'],
    registers: [registry],
    collect: () => {
      openSockets.set({ kind: 'miner_authenticated' }, miners.of('/').adapter.rooms.get(MINERS_ROOM)?.size ?? 0);
      openSockets.set({ kind: 'miner' }, miners.of('/').sockets.size);
      openSockets.set({ kind: 'public' }, events.of('/').sockets.size);
    },
  });

  const deliver = ({ channel, payload }: OutboxEvent): void => {
    if (channel === PUBLIC_CHANNEL) events.emit('events', payload);
    else if (channel !== MINER_CHANNEL) return;
    else if (payload.filter_recipients === undefined) miners.to(MINERS_ROOM).emit('miner_broadcast', payload);
    else if (payload.filter_recipients.length > 0)
      miners.to(payload.filter_recipients.map(roomOf)).emit('miner_broadcast', payload);
    delivered.inc({ channel, reason: payload.reason });
  };

  const onRequest: RequestListener = (req, res) => {
    const path = (req.url ?? '/').split('?')[0];
    if (path === '/health') {
      const healthy = isHealthy();
      res.writeHead(healthy ? 200 : 503, { 'content-type': 'application/json' }).end(JSON.stringify({ healthy }));
    } else if (path === '/metrics' && !req.headers['x-forwarded-for']) {
      registry.metrics().then(
        (text) => res.writeHead(200, { 'content-type': registry.contentType }).end(text),
        () => res.writeHead(500).end(),
      );
    } else inner.emit('request', routed(req), res);
  };
  const onUpgrade = (req: IncomingMessage, socket: Duplex, head: Buffer): void => {
    const { url = '' } = routed(req);
    if (url.startsWith(MINER_PATH) || url.startsWith(EVENTS_PATH)) inner.emit('upgrade', req, socket, head);
    else socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n');
  };
  const close = async (): Promise<void> => {
    // `close` also closes the server it is attached to, which here never listened: that error means nothing.
    await Promise.all([miners, events].map((io) => new Promise<void>((resolve) => void io.close(() => resolve()))));
  };
  return { onRequest, onUpgrade, deliver, close };
}

/** Host `events.…` stands for the events path. */
function routed(req: IncomingMessage): IncomingMessage {
  if (/^events\./i.test(req.headers.host ?? '') && req.url?.startsWith(MINER_PATH)) req.url = `/events${req.url}`;
  return req;
}
