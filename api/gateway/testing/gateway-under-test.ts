import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '../../../activities/clients/log.ts';
import { loadValidatorConfig } from '../../../workers/config/validator.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { startGateway, type RunningGateway } from '../start-gateway.ts';
import { PEPPER, SECRETS_KEY, seeder } from './seed.ts';

export const gatewayEnv = (databaseUrl: string, spoolDir: string): Record<string, string> => ({
  CANOPY_DATABASE_URL: databaseUrl,
  CANOPY_S3_ENDPOINT: 'http://127.0.0.1:1',
  CANOPY_S3_BUCKET: 'b',
  CANOPY_S3_ACCESS_KEY: 'a',
  CANOPY_S3_SECRET_KEY: 's',
  CANOPY_PUBLIC_URL: 'http://127.0.0.1:1',
  CANOPY_VALIDATOR_SEED: '01'.repeat(32),
  CANOPY_KEY_PEPPER: PEPPER,
  CANOPY_SECRETS_KEY: SECRETS_KEY,
  CANOPY_LAUNCH_KEY: 'x'.repeat(32),
  CANOPY_SPOOL_DIR: spoolDir,
  CANOPY_LISTEN_PORT: '0',
  CANOPY_LOG_LEVEL: 'error',
});

/** A gateway on a database of its own; `seed` writes the rows, `gateway.reload` brings them into memory. */
export async function startGatewayUnderTest(env: Record<string, string> = {}) {
  const database = await createTestDatabase('validator');
  const dir = await mkdtemp(join(tmpdir(), 'canopy-gateway-'));
  const config = loadValidatorConfig({ ...gatewayEnv(database.url, join(dir, 'spool')), ...env });
  const gateway: RunningGateway = await startGateway(config, createLogger('gateway', config.CANOPY_LOG_LEVEL));
  return {
    db: database.knex,
    databaseUrl: database.url,
    gateway,
    url: `http://127.0.0.1:${gateway.port}`,
    seed: seeder(database.knex),
    spoolDir: join(dir, 'spool'),
    stop: async () => {
      await gateway.stop();
      await database.drop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
