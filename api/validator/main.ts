import { Registry } from 'prom-client';
import { loadHotkey } from '../../activities/clients/hotkey.ts';
import { createLogger } from '../../activities/clients/log.ts';
import { connectDatabase } from '../../activities/clients/postgres.ts';
import { BlobStore } from '../../activities/clients/s3.ts';
import { SecretBox } from '../../activities/clients/secret-box.ts';
import { connectTemporal } from '../../activities/clients/temporal.ts';
import { loadValidatorConfig } from '../../workers/config/validator.ts';
import { serve } from '../http/serve.ts';
import { createValidatorApi } from './app.ts';
import { createAuth } from './auth/create-auth.ts';
import { chuteRoutes } from './chutes/routes.ts';
import type { ValidatorDeps } from './deps.ts';
import { imageRoutes } from './images/routes.ts';
import { instanceRoutes } from './instances/routes.ts';
import { invocationRoutes } from './invocations/routes.ts';
import { minerRoutes } from './miner/routes.ts';
import { nodeRoutes } from './nodes/routes.ts';
import { proofRoutes } from './proofs/routes.ts';

const config = loadValidatorConfig(process.env);
const log = createLogger('validator-api', config.CANOPY_LOG_LEVEL);
const db = connectDatabase({
  url: config.CANOPY_DATABASE_URL.reveal(),
  poolMax: config.CANOPY_DATABASE_POOL,
  applicationName: 'canopy-validator-api',
});
const blobs = new BlobStore({
  endpoint: config.CANOPY_S3_ENDPOINT,
  region: config.CANOPY_S3_REGION,
  bucket: config.CANOPY_S3_BUCKET,
  accessKey: config.CANOPY_S3_ACCESS_KEY,
  secretKey: config.CANOPY_S3_SECRET_KEY.reveal(),
});
const [temporal, hotkey] = await Promise.all([
  connectTemporal(config.CANOPY_TEMPORAL_ADDRESS, config.CANOPY_TEMPORAL_NAMESPACE),
  loadHotkey(config.CANOPY_VALIDATOR_SEED.reveal()),
]);

const deps: ValidatorDeps = {
  config,
  db,
  temporal: temporal.client,
  blobs,
  box: new SecretBox(config.CANOPY_SECRETS_KEY.reveal()),
  hotkey,
  auth: createAuth({ db, config }),
  log,
  registry: new Registry(),
};
const routers = [imageRoutes, chuteRoutes, minerRoutes, instanceRoutes, nodeRoutes, proofRoutes, invocationRoutes].map(
  (routes) => routes(deps),
);

await serve(createValidatorApi(deps, routers), {
  program: 'validator-api',
  host: config.CANOPY_LISTEN_HOST,
  port: config.CANOPY_LISTEN_PORT,
  log,
  close: async () => {
    await temporal.close();
    await db.destroy();
    blobs.close();
  },
});
