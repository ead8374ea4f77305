import { Registry } from 'prom-client';
import { createLogger } from '../../activities/clients/log.ts';
import { connectDatabase } from '../../activities/clients/postgres.ts';
import { AuthStore } from '../../activities/validator/auth/auth-store.ts';
import { loadValidatorConfig } from '../../workers/config/validator.ts';
import { serve } from '../http/serve.ts';
import { authenticateMiner } from './authenticate-miner.ts';
import { createSockets } from './create-sockets.ts';
import { EventTail } from './event-tail.ts';

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
