import { Registry } from 'prom-client';
import { createLogger } from '../../activities/clients/log.ts';
import { connectDatabase } from '../../activities/clients/postgres.ts';
import { AuthStore } from '../../activities/validator/auth/auth-store.ts';
import { pruneEvents } from '../../activities/validator/events/prune-events.ts';
import { loadValidatorConfig } from '../../workers/config/validator.ts';
import { serve } from '../http/serve.ts';
import { authenticateMiner } from './authenticate-miner.ts';
import { createSockets } from './create-sockets.ts';
import { EventTail } from './event-tail.ts';

const KEEP_EVENTS_DAYS = 7;
const PRUNE_INTERVAL_MS = 3_600_000;

const config = loadValidatorConfig(process.env);
const log = createLogger('sockets', config.CANOPY_LOG_LEVEL);
const databaseUrl = config.CANOPY_DATABASE_URL.reveal();
const db = connectDatabase({
  url: databaseUrl,
  poolMax: Math.min(5, config.CANOPY_DATABASE_POOL),
  applicationName: 'canopy-sockets',
});
const store = new AuthStore(db);

const tail: EventTail = new EventTail({ databaseUrl, log, onEvent: (event) => sockets.deliver(event) });
const sockets = createSockets({
  log,
  registry: new Registry(),
  authenticate: (message) => authenticateMiner(store, config.CANOPY_NETUID, message, Date.now()),
  isHealthy: () => tail.isLive(),
});
tail.start();

const pruning = setInterval(() => {
  pruneEvents(db, KEEP_EVENTS_DAYS).catch((err: unknown) =>
    log.warn({ event: 'events.prune_failed', err }, 'events.prune_failed'),
  );
}, PRUNE_INTERVAL_MS);
pruning.unref();

await serve(sockets.onRequest, {
  program: 'sockets',
  host: config.CANOPY_LISTEN_HOST,
  port: config.CANOPY_LISTEN_PORT,
  log,
  onUpgrade: sockets.onUpgrade,
  beforeDrain: async () => {
    await tail.stop();
    await sockets.close();
  },
  close: () => db.destroy(),
});
