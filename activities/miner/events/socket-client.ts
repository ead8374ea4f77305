import { io } from 'socket.io-client';
import { MINER_EVENT_REASONS, type MinerEvent } from '../../../workflows/domain/miner/react-to.ts';
import { MINER_CHANNEL } from '../../../workflows/domain/protocol/events.ts';
import type { Hotkey } from '../../clients/hotkey.ts';
import type { Logger } from '../../clients/log.ts';

export interface SocketClientOptions {
  url: string;
  hotkey: Hotkey;
  log: Logger;
  /** after each successful authentication: what was said meanwhile is unknown */
  onConnected: () => Promise<void>;
  onEvent: (event: MinerEvent) => Promise<void>;
}
export interface MinerSocket {
  isConnected: () => boolean;
  close: () => void;
}

const RETRY_AFTER_REFUSAL_MS = 5000;
const AUTH_WITHIN_MS = 15_000;

/** The validator's miner socket (spec/validator-api.md §4.1), kept open for ever: also after a refused authentication. */
export function connectMinerSocket({ url, hotkey, log, onConnected, onEvent }: SocketClientOptions): MinerSocket {
  const socket = io(url, {
    transports: ['websocket'],
    timeout: 10_000,
    reconnectionDelay: 500,
    reconnectionDelayMax: 15_000,
  });
  let isAuthenticated = false;
  let timer: NodeJS.Timeout | undefined;
  const again = (afterMs: number): void => {
    clearTimeout(timer);
    timer = setTimeout(() => socket.disconnect().connect(), afterMs);
  };
  const safely = (what: string, work: Promise<void>): void =>
    void work.catch((err: unknown) =>
      log.error({ event: 'socket.handler_failed', what, err }, 'socket.handler_failed'),
    );

  socket.on('connect', () => {
    const headers = hotkey.clientHeaders({ purpose: 'sockets' });
    socket.emit('authenticate', {
      'X-Chutes-Hotkey': headers['x-chutes-hotkey'],
      'X-Chutes-Nonce': headers['x-chutes-nonce'],
      'X-Chutes-Signature': headers['x-chutes-signature'],
    });
    again(AUTH_WITHIN_MS); // no answer at all is a dead session
  });
  socket.on('auth_success', () => {
    clearTimeout(timer);
    isAuthenticated = true;
    log.info({ event: 'socket.authenticated', url }, 'socket.authenticated');
    safely('resync', onConnected());
  });
  socket.on('auth_failed', (answer: { error?: unknown }) => {
    log.warn({ event: 'socket.refused', why: String(answer?.error) }, 'socket.refused');
    again(RETRY_AFTER_REFUSAL_MS);
  });
  socket.on('disconnect', (reason) => {
    isAuthenticated = false;
    log.warn({ event: 'socket.disconnected', reason }, 'socket.disconnected');
    // The library comes back by itself, except when the server was the one who ended it.
    if (reason === 'io server disconnect') again(RETRY_AFTER_REFUSAL_MS);
  });
  socket.on('connect_error', (err) =>
    log.debug({ event: 'socket.connect_failed', why: err.message }, 'socket.connect_failed'),
  );
  socket.on(MINER_CHANNEL, (envelope: unknown) => {
    const event = parseEvent(envelope);
    if (event) safely(event.reason, onEvent(event));
  });
  return {
    isConnected: () => isAuthenticated,
    close: () => {
      clearTimeout(timer);
      socket.disconnect();
    },
  };
}

/** Only known reasons with an object as data; everything else is not for us. */
export function parseEvent(envelope: unknown): MinerEvent | null {
  if (typeof envelope !== 'object' || envelope === null) return null;
  const { reason, data } = envelope as { reason?: unknown; data?: unknown };
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return null;
  return MINER_EVENT_REASONS.some((known) => known === reason) ? ({ reason, data } as MinerEvent) : null;
}
