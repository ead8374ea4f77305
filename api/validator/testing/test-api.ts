import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { RequestListener } from 'node:http';
import type { Knex } from 'knex';
import { Registry } from 'prom-client';
import { loadHotkey, type Hotkey } from '../../../activities/clients/hotkey.ts';
import { createLogger } from '../../../activities/clients/log.ts';
import { BlobStore } from '../../../activities/clients/s3.ts';
import { SecretBox } from '../../../activities/clients/secret-box.ts';
import { connectTemporal } from '../../../activities/clients/temporal.ts';
import { loadValidatorConfig, type ValidatorConfig } from '../../../workers/config/validator.ts';
import { createAuth } from '../auth/create-auth.ts';
import type { ValidatorDeps } from '../deps.ts';

/** A configuration for tests; `env` overrides single variables. */
export function testConfig(databaseUrl: string, env: Record<string, string> = {}): ValidatorConfig {
  return loadValidatorConfig({
    CANOPY_DATABASE_URL: databaseUrl,
    CANOPY_TEMPORAL_ADDRESS: process.env.CANOPY_TEST_TEMPORAL,
    CANOPY_S3_ENDPOINT: process.env.CANOPY_TEST_S3_ENDPOINT,
    CANOPY_S3_BUCKET: 'canopy',
    CANOPY_S3_ACCESS_KEY: 'test',
    CANOPY_S3_SECRET_KEY: 'testsecret',
    CANOPY_PUBLIC_URL: 'http://127.0.0.1:8000',
    CANOPY_VALIDATOR_SEED: '11'.repeat(32),
    CANOPY_KEY_PEPPER: '22'.repeat(32),
    CANOPY_SECRETS_KEY: '33'.repeat(32),
    CANOPY_LAUNCH_KEY: 'a launch key for tests',
    CANOPY_ALLOW_PRIVATE_HOSTS: 'true',
    ...env,
  });
}

/** Everything route factories take, on the run's real servers. */
export async function testDeps(
  { knex, url }: { knex: Knex; url: string },
  { env, nowMs }: { env?: Record<string, string>; nowMs?: () => number } = {},
): Promise<{ deps: ValidatorDeps; close: () => Promise<void> }> {
  const config = testConfig(url, env);
  const temporal = await connectTemporal(config.CANOPY_TEMPORAL_ADDRESS, config.CANOPY_TEMPORAL_NAMESPACE);
  const blobs = new BlobStore({
    endpoint: config.CANOPY_S3_ENDPOINT,
    region: config.CANOPY_S3_REGION,
    bucket: config.CANOPY_S3_BUCKET,
    accessKey: config.CANOPY_S3_ACCESS_KEY,
    secretKey: config.CANOPY_S3_SECRET_KEY.reveal(),
  });
  return {
    deps: {
      config,
      db: knex,
      temporal: temporal.client,
      blobs,
      box: new SecretBox(config.CANOPY_SECRETS_KEY.reveal()),
      hotkey: await loadHotkey(config.CANOPY_VALIDATOR_SEED.reveal()),
      auth: createAuth({ db: knex, config, ...(nowMs ? { nowMs } : {}) }),
      log: createLogger('test', 'error'),
      registry: new Registry(),
    },
    close: async () => {
      blobs.close();
      await temporal.close();
    },
  };
}

/** Listens on a free loopback port. */
export async function listen(listener: RequestListener): Promise<{ url: string; server: Server; close: () => void }> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    server,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** A user row of a fresh hotkey, without the registration route. */
export async function insertUser(
  knex: Knex,
  {
    username = `u${randomBytes(4).toString('hex')}`,
    permissions = 0,
  }: { username?: string; permissions?: number } = {},
): Promise<{ userId: string; username: string; hotkey: Hotkey }> {
  const hotkey = await loadHotkey(randomBytes(32).toString('hex'));
  const userId = randomUUID();
  await knex('users').insert({
    user_id: userId,
    username,
    hotkey: hotkey.address,
    coldkey: hotkey.address,
    payment_address: `pay-${userId}`,
    payment_secret_sealed: Buffer.alloc(1),
    fingerprint_hash: userId,
    permissions_bitmask: permissions,
  });
  return { userId, username, hotkey };
}

/** A member of the metagraph of the test configuration's network. */
export async function insertMiner(
  knex: Knex,
  { blacklistReason = null, netuid = 64 }: { blacklistReason?: string | null; netuid?: number } = {},
): Promise<Hotkey> {
  const hotkey = await loadHotkey(randomBytes(32).toString('hex'));
  const [row] = await knex('metagraph_nodes').where({ netuid }).max<{ max: number | null }[]>('uid as max');
  await knex('metagraph_nodes').insert({
    netuid,
    hotkey: hotkey.address,
    coldkey: hotkey.address,
    uid: (row?.max ?? -1) + 1,
    stake_rao: '0',
    blacklist_reason: blacklistReason,
    synced_at: new Date(),
  });
  return hotkey;
}
