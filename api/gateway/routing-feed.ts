import type { Knex } from 'knex';
import pg from 'pg';
import type { Logger } from '../../activities/clients/log.ts';
import type { SecretBox } from '../../activities/clients/secret-box.ts';
import {
  loadChutes,
  loadInstances,
  loadKeys,
  loadQuotas,
  loadShares,
  loadUsers,
  type StoredInstance,
} from '../../activities/validator/invocations/routing-store.ts';
import type { LiveInstance, RoutingTable } from './routing-table.ts';

const TABLES = ['users', 'api_keys', 'chutes', 'chute_shares', 'quotas', 'instances'] as const;
type TableName = (typeof TABLES)[number];
const isTable = (name: string | undefined): name is TableName => TABLES.includes(name as TableName);

export interface RoutingFeedOptions {
  db: Knex;
  databaseUrl: string;
  box: SecretBox;
  table: RoutingTable;
  log: Logger;
  /** after every change of instances: who is gone has its connections closed */
  onInstances: (instances: readonly LiveInstance[]) => void;
  debounceMs?: number;
  reloadEveryMs?: number;
}

/**
 * Keeps the routing table fresh: a NOTIFY names the table that changed, and everything is read again every few seconds,
 * because a notification may be lost with its connection. When Postgres is away the last state goes on serving.
 */
export class RoutingFeed {
  readonly #options: Required<RoutingFeedOptions>;
  readonly #dirty = new Set<TableName>();
  readonly #opened = new Map<string, { sealed: Buffer; live: LiveInstance }>();
  #listener: pg.Client | null = null;
  #refreshing: Promise<void> | null = null;
  #timers: NodeJS.Timeout[] = [];
  #debounce: NodeJS.Timeout | null = null;
  #isClosed = false;
  #loadedAtMs: number | null = null;
  #wasAway = false;

  constructor(options: RoutingFeedOptions) {
    this.#options = { debounceMs: 15, reloadEveryMs: 5_000, ...options };
  }

  /** Since the last complete reload, milliseconds; null before the first. */
  get ageMs(): number | null {
    return this.#loadedAtMs === null ? null : Date.now() - this.#loadedAtMs;
  }

  start(): void {
    void this.#listen();
    void this.reload();
    this.#timers.push(setInterval(() => void this.reload(), this.#options.reloadEveryMs));
  }

  /** Reads everything again; resolves when the table shows a state at least as new as this call. */
  reload(): Promise<void> {
    for (const name of TABLES) this.#dirty.add(name);
    return this.#refresh();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const timer of this.#timers) clearInterval(timer);
    if (this.#debounce) clearTimeout(this.#debounce);
    await this.#refreshing;
    await this.#listener?.end().catch(() => {}); // its connection may be gone already
  }

  async #refresh(): Promise<void> {
    while (this.#refreshing) await this.#refreshing;
    if (this.#dirty.size === 0 || this.#isClosed) return;
    this.#refreshing = this.#load().finally(() => (this.#refreshing = null));
    await this.#refreshing;
  }

  async #load(): Promise<void> {
    const names = TABLES.filter((name) => this.#dirty.has(name));
    this.#dirty.clear();
    try {
      for (const name of names) await this.#loadTable(name);
      if (names.length === TABLES.length) this.#loadedAtMs = Date.now();
      if (this.#wasAway) this.#options.log.info({ event: 'routing.recovered' }, 'routing.recovered');
      this.#wasAway = false;
    } catch (err) {
      for (const name of names) this.#dirty.add(name);
      if (!this.#wasAway) this.#options.log.warn({ event: 'routing.stale', err }, 'routing.stale');
      this.#wasAway = true;
    }
  }

  async #loadTable(name: TableName): Promise<void> {
    const { db, table } = this.#options;
    switch (name) {
      case 'users':
        return table.setUsers(await loadUsers(db));
      case 'api_keys':
        return table.setKeys(await loadKeys(db));
      case 'chutes':
        return table.setChutes(await loadChutes(db));
      case 'chute_shares':
        return table.setShares(await loadShares(db));
      case 'quotas':
        return table.setQuotas(await loadQuotas(db));
      case 'instances': {
        const live = (await loadInstances(db)).flatMap((stored) => this.#open(stored) ?? []);
        const ids = new Set(live.map((instance) => instance.instanceId));
        for (const instanceId of this.#opened.keys()) if (!ids.has(instanceId)) this.#opened.delete(instanceId);
        table.setInstances(live);
        return this.#options.onInstances(live);
      }
    }
  }

  /** One unreadable secret takes its instance out of routing, not the gateway. */
  #open({ secretSealed, ...instance }: StoredInstance): LiveInstance | null {
    const known = this.#opened.get(instance.instanceId);
    if (known?.sealed.equals(secretSealed)) return Object.assign(known.live, instance);
    try {
      const live = { ...instance, secret: this.#options.box.open(secretSealed, `instance:${instance.instanceId}`) };
      this.#opened.set(instance.instanceId, { sealed: secretSealed, live });
      return live;
    } catch (err) {
      this.#options.log.error(
        { event: 'routing.secret_unreadable', instanceId: instance.instanceId, err },
        'routing.secret_unreadable',
      );
      return null;
    }
  }

  async #listen(): Promise<void> {
    if (this.#isClosed) return;
    const client = new pg.Client({
      connectionString: this.#options.databaseUrl,
      application_name: 'gateway-listen',
      keepAlive: true,
    });
    const again = (): void => {
      client.removeAllListeners('end');
      void client.end().catch(() => {}); // already broken
      if (!this.#isClosed) this.#timers.push(setTimeout(() => void this.#listen(), 1_000));
    };
    client.on('error', () => {}); // 'end' follows
    client.once('end', again);
    client.on('notification', ({ payload }) => {
      if (!isTable(payload)) return;
      this.#dirty.add(payload);
      // chutes carry their owner's name and roles
      if (payload === 'users') this.#dirty.add('chutes');
      this.#debounce ??= setTimeout(() => {
        this.#debounce = null;
        void this.#refresh();
      }, this.#options.debounceMs);
    });
    try {
      await client.connect();
      await client.query('listen canopy_routing');
      this.#listener = client;
      void this.reload(); // what changed while nobody listened
    } catch {
      again(); // reload reports that Postgres is away
    }
  }
}
