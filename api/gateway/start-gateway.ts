import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connectDatabase } from '../../activities/clients/postgres.ts';
import type { Logger } from '../../activities/clients/log.ts';
import { SecretBox } from '../../activities/clients/secret-box.ts';
import { flushSpool } from '../../activities/validator/invocations/flush-spool.ts';
import { recordInstanceOutcomes, touchApiKeys } from '../../activities/validator/invocations/invocation-store.ts';
import { loadUsers } from '../../activities/validator/invocations/routing-store.ts';
import { Spool } from '../../activities/validator/invocations/spool.ts';
import type { ValidatorConfig } from '../../workers/config/validator.ts';
import { Accounts } from './accounts.ts';
import { repeat } from './background.ts';
import { createGateway } from './gateway.ts';
import { InstanceLoad } from './instance-load.ts';
import { Meter } from './meter.ts';
import { createGatewayMetrics } from './metrics.ts';
import { createProxy } from './proxy.ts';
import { RoutingFeed } from './routing-feed.ts';
import { RoutingTable } from './routing-table.ts';
import { createCanopyTransport } from './transport.ts';

export interface RunningGateway {
  server: Server;
  port: number;
  isReady: () => boolean;
  flush: () => Promise<void>;
  reload: () => Promise<void>;
  stop: () => Promise<void>;
}

const FLUSH_EVERY_MS = 1_000;
const ACCOUNTS_EVERY_MS = 5_000;
const KEYS_EVERY_MS = 60_000;
const DRAIN_MS = 30_000;

/** Wires the gateway and starts it; everything that touches Postgres runs beside the requests, never in front of them. */
export async function startGateway(config: ValidatorConfig, log: Logger): Promise<RunningGateway> {
  const databaseUrl = config.CANOPY_DATABASE_URL.reveal();
  const db = connectDatabase({
    url: databaseUrl,
    poolMax: Math.min(config.CANOPY_DATABASE_POOL, 5),
    applicationName: 'gateway',
  });
  const spool = new Spool({ dir: config.CANOPY_SPOOL_DIR ?? join(config.CANOPY_WORK_DIR, 'spool'), log });
  const table = new RoutingTable();
  const accounts = new Accounts({ perMinute: config.CANOPY_KEY_REQUESTS_PER_MINUTE, burst: config.CANOPY_KEY_BURST });
  const load = new InstanceLoad();
  const transport = createCanopyTransport();
  const meter = new Meter(spool, accounts);
  const feed = new RoutingFeed({
    db,
    databaseUrl,
    table,
    log,
    box: new SecretBox(config.CANOPY_SECRETS_KEY.reveal()),
    onInstances: (instances) => {
      const ids = new Set(instances.map(({ instanceId }) => instanceId));
      transport.keepOnly(ids);
      load.keepOnly(ids);
    },
  });
  let isReady = false;
  const metrics = createGatewayMetrics({ routingAgeMs: () => feed.ageMs, isSpoolHealthy: () => spool.isHealthy });

  const flush = repeat('spool.flush', FLUSH_EVERY_MS, log, async () => {
    metrics.loaded.inc(await flushSpool({ spool, db, log, onLoaded: (records) => accounts.onLoaded(records) }));
    const outcomes = load.takeOutcomes();
    await recordInstanceOutcomes(db, outcomes).catch((err: unknown) => {
      load.giveBack(outcomes);
      throw err;
    });
  });
  const refreshAccounts = repeat('accounts.refresh', ACCOUNTS_EVERY_MS, log, async () => {
    if (isReady) return accounts.refresh(db, Date.now());
    // Ready only when both routes and accounts are known: a paying caller must not meet an empty ledger.
    if (feed.ageMs === null) return;
    await accounts.loadAll(
      db,
      (await loadUsers(db)).map(({ userId }) => userId),
      Date.now(),
    );
    isReady = true;
  });
  const touchKeys = repeat('keys.touch', KEYS_EVERY_MS, log, () => touchApiKeys(db, meter.takeKeys()));

  const server = createGateway({
    settings: {
      pepperHex: config.CANOPY_KEY_PEPPER.reveal(),
      defaultQuota: config.CANOPY_DEFAULT_QUOTA,
      bodyLimitBytes: config.CANOPY_BODY_LIMIT_BYTES,
      bodyTimeoutMs: config.CANOPY_BODY_TIMEOUT_MS,
      attemptTimeoutMs: 600_000,
    },
    table,
    accounts,
    load,
    transport,
    meter,
    metrics,
    db,
    log,
    api: createProxy(config.CANOPY_API_UPSTREAM),
    sockets: createProxy(config.CANOPY_SOCKETS_UPSTREAM),
    isReady: () => isReady,
    health: () => ({ routing_age_ms: feed.ageMs, spool_healthy: spool.isHealthy }),
  });
  server.listen(config.CANOPY_LISTEN_PORT, config.CANOPY_LISTEN_HOST);
  await once(server, 'listening');
  // What an earlier life left in the spool counts before anyone is admitted.
  await flush.now();
  feed.start();
  await feed.reload();
  await refreshAccounts.now();
  const { port } = server.address() as AddressInfo;

  let stopping: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    await drain(server);
    await Promise.all([refreshAccounts.stop(), touchKeys.stop(), feed.close()]);
    await transport.close();
    await flush.now();
    await flush.stop();
    await spool.close();
    await db.destroy();
  };
  return {
    server,
    port,
    isReady: () => isReady,
    flush: flush.now,
    reload: () => feed.reload(),
    stop: () => (stopping ??= stop()),
  };
}

async function drain(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  server.closeIdleConnections();
  const late = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
  await closed;
  clearTimeout(late);
}
