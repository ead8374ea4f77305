import type { Server, Socket } from 'socket.io';
import type { Logger } from '../../activities/clients/log.ts';

export interface MinerNamespaceOptions {
  io: Server;
  log: Logger;
  /** the hotkey a message proves, or null */
  authenticate: (message: unknown) => Promise<string | null>;
  /** a socket that has not authenticated by then is dropped */
  graceMs: number;
}

export const MINERS_ROOM = 'miners';
export const roomOf = (hotkey: string): string => `hotkey:${hotkey}`;

/** The miner socket of spec/validator-api.md §4.1. Rooms hold sessions, not hotkeys: a late disconnect of an old session
 * takes nothing from the new one. */
export function attachMinerNamespace({ io, log, authenticate, graceMs }: MinerNamespaceOptions): void {
  io.on('connection', (socket: Socket) => {
    let state: 'new' | 'checking' | 'authenticated' = 'new';
    const tooLate = setTimeout(() => socket.disconnect(true), graceMs);
    socket.once('disconnect', () => clearTimeout(tooLate));

    const refuse = (error: string): void => {
      socket.emit('auth_failed', { error });
      socket.disconnect(true);
    };
    const check = async (message: unknown): Promise<void> => {
      const hotkey = await authenticate(message);
      if (!socket.connected) return;
      if (hotkey === null) return refuse('signature of a registered hotkey is required');
      clearTimeout(tooLate);
      state = 'authenticated';
      await socket.join([MINERS_ROOM, roomOf(hotkey)]);
      socket.emit('auth_success', { message: 'Authenticated' });
      log.info({ event: 'socket.authenticated', hotkey, session: socket.id }, 'socket.authenticated');
    };

    // One attempt a connection: checking a signature costs us more than sending one costs them.
    socket.on('authenticate', (message: unknown) => {
      if (state !== 'new') return;
      state = 'checking';
      check(message).catch((err: unknown) => {
        log.warn({ event: 'socket.auth_unavailable', err }, 'socket.auth_unavailable');
        refuse('authentication is not available now');
      });
    });
    socket.on('miner_message', () => {
      if (state !== 'authenticated') socket.disconnect(true);
    });
  });
}
