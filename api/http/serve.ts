import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { Logger } from '../../activities/clients/log.ts';

export interface ServeOptions {
  program: string;
  host: string;
  port: number;
  log: Logger;
  onUpgrade?: (req: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** before connections are waited for: ends those that never end by themselves (sockets, long streams) */
  beforeDrain?: () => Promise<void>;
  /** after the last request has been answered */
  close: () => Promise<void>;
  drainMs?: number;
}

/** Listens; on SIGTERM or SIGINT stops accepting, lets requests finish, closes what the program holds, and exits. */
export async function serve(
  listener: RequestListener,
  options: ServeOptions,
): Promise<{ server: Server; port: number; stop: () => Promise<void> }> {
  const { program, host, port, log, onUpgrade, beforeDrain, close, drainMs = 10_000 } = options;
  const server = createServer({ requestTimeout: 0, headersTimeout: 20_000, keepAliveTimeout: 65_000 }, listener);
  if (onUpgrade) server.on('upgrade', onUpgrade);
  server.listen(port, host);
  await once(server, 'listening');
  const bound = (server.address() as AddressInfo).port;
  let stopping: Promise<void> | null = null;
  const stop = (): Promise<void> => (stopping ??= drain(server, drainMs, beforeDrain).then(close));
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ event: 'program.stopping', program, signal }, 'program.stopping');
      void stop().then(() => process.exit(0));
    });
  }
  log.info({ event: 'program.listening', program, host, port: bound }, 'program.listening');
  return { server, port: bound, stop };
}

async function drain(server: Server, drainMs: number, beforeDrain?: () => Promise<void>): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  await beforeDrain?.();
  server.closeIdleConnections();
  const late = setTimeout(() => server.closeAllConnections(), drainMs);
  await closed;
  clearTimeout(late);
}
