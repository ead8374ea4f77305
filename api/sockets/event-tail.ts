import pg from 'pg';
import type { Logger } from '../../activities/clients/log.ts';
import { EventReader, type OutboxEvent } from '../../activities/validator/events/event-reader.ts';

export interface EventTailOptions {
  databaseUrl: string;
  log: Logger;
  onEvent: (event: OutboxEvent) => void;
  /** reads this often even when nothing wakes it */
  pollMs?: number;
}

const MAX_RETRY_MS = 5_000;
const QUERY_MS = 10_000;
const CHANNEL = 'canopy_events';

/**
 * Follows table `events` on a connection of its own: woken by NOTIFY, reading every few seconds anyway. A lost or hung
 * connection is replaced and reading resumes after the last event; it never gives up and never pretends (`isLive`).
 */
export class EventTail {
  readonly #options: Required<EventTailOptions>;
  readonly #reader = new EventReader();
  #wake: () => void = () => {};
  #stopped = false;
  #readAtMs = 0;
  #running: Promise<void> | null = null;

  constructor(options: EventTailOptions) {
    this.#options = { pollMs: 3_000, ...options };
  }

  /** True while the table was read recently enough that nobody can miss an event for long. */
  isLive(): boolean {
    return Date.now() - this.#readAtMs < this.#options.pollMs + QUERY_MS;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { log } = this.#options;
    let retryMs = 100;
    while (!this.#stopped) {
      try {
        await this.#follow(() => (retryMs = 100));
      } catch (err) {
        log.warn({ event: 'events.tail_lost', retryMs, err }, 'events.tail_lost');
        await this.#pause(retryMs);
        retryMs = Math.min(retryMs * 2, MAX_RETRY_MS);
      }
    }
  }

  /** One connection's life; throws when it ends. */
  async #follow(onRead: () => void): Promise<void> {
    const client = new pg.Client({
      connectionString: this.#options.databaseUrl,
      application_name: 'canopy-sockets-tail',
      keepAlive: true,
      connectionTimeoutMillis: QUERY_MS,
      // A peer that vanished without a word shows as a query that does not end.
      query_timeout: QUERY_MS,
    });
    let lost: Error | null = null;
    let woken = false;
    const wake = (): void => {
      woken = true;
      this.#wake();
    };
    client.on('error', (err) => {
      lost = err;
      wake();
    });
    client.on('end', () => {
      lost ??= new Error('connection ended');
      wake();
    });
    client.on('notification', wake);
    try {
      await client.connect();
      await client.query(`listen ${CHANNEL}`);
      while (!this.#stopped) {
        woken = false;
        for (const event of await this.#reader.next(client, Date.now())) this.#deliver(event);
        this.#readAtMs = Date.now();
        onRead();
        if (!woken) await this.#pause(this.#options.pollMs);
        if (lost) throw lost as Error;
      }
    } finally {
      // It may be dead already, or silent: it is not waited for.
      void client.end().catch(() => {});
    }
  }

  #deliver(event: OutboxEvent): void {
    try {
      this.#options.onEvent(event);
    } catch (err) {
      // One event that cannot be sent must not stop those after it.
      this.#options.log.error({ event: 'events.delivery_failed', seq: event.seq, err }, 'events.delivery_failed');
    }
  }

  async #pause(ms: number): Promise<void> {
    if (this.#stopped) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
