import { chmod, mkdtemp, mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import getPort from 'get-port';
import { ensureTimeSkippingServer, ensureTools } from '../../infra/dev/toolchain.ts';
import { startPostgres } from '../../infra/dev/services/postgres.ts';
import { startSeaweed } from '../../infra/dev/services/seaweed.ts';
import { startTemporal } from '../../infra/dev/services/temporal.ts';

/** Postgres, Temporal (namespaces validator, miner-test) and S3 on free loopback ports, told to tests by environment. */
export async function startTestServices(): Promise<{ stop: () => Promise<void> }> {
  const toolsDir = process.env.CANOPY_TOOLS_DIR ?? join(import.meta.dirname, '../../.canopy/tools');
  await mkdir(toolsDir, { recursive: true });
  const [tools, timeSkipping] = await Promise.all([
    ensureTools(toolsDir, (message) => process.stderr.write(`${message}\n`)),
    ensureTimeSkippingServer(toolsDir),
  ]);
  const dir = await mkdtemp(join(tmpdir(), 'canopy-test-'));
  await chmod(dir, 0o755); // Postgres runs as a user of its own when we are root
  const free = () => getPort({ host: '127.0.0.1' });
  const weed = { s3: 0, master: 0, volume: 0, filer: 0, admin: 0 };
  for (const name of Object.keys(weed) as (keyof typeof weed)[]) {
    // each takes port + 10000 too
    for (;;) {
      const candidate = 20_000 + Math.floor(Math.random() * 25_000);
      if (
        (await getPort({ host: '127.0.0.1', port: candidate })) === candidate &&
        (await getPort({ host: '127.0.0.1', port: candidate + 10_000 })) === candidate + 10_000
      ) {
        weed[name] = candidate;
        break;
      }
    }
  }
  const pgPort = await free();
  const temporalPort = await free();
  const [postgres, temporal, s3] = await Promise.all([
    startPostgres({
      dir: join(dir, 'postgres'),
      port: pgPort,
      password: 'test',
      logFile: join(dir, 'postgres.log'),
      ephemeral: true,
      maxConnections: 300,
    }),
    startTemporal({
      binary: tools.temporal,
      port: temporalPort,
      httpPort: await free(),
      metricsPort: await free(),
      namespaces: ['validator', 'miner-test'],
      logFile: join(dir, 'temporal.log'),
    }),
    startSeaweed({
      binary: tools.weed,
      dir: join(dir, 's3'),
      bucket: 'canopy',
      accessKey: 'test',
      secretKey: 'testsecret',
      logFile: join(dir, 's3.log'),
      ports: weed,
    }),
  ]);
  Object.assign(process.env, {
    CANOPY_TEST_POSTGRES_URL: postgres.url('postgres'),
    CANOPY_TEST_TEMPORAL: `127.0.0.1:${temporalPort}`,
    CANOPY_TEST_TIME_SKIPPING: timeSkipping,
    CANOPY_TEST_S3_ENDPOINT: s3.endpoint,
    CANOPY_TEST_TEMPORAL_BINARY: tools.temporal,
    CANOPY_TEST_WEED_BINARY: tools.weed,
  });
  return {
    stop: async () => {
      await Promise.all([postgres.stop(), temporal.stop(), s3.stop()]);
      await rm(dir, { recursive: true, force: true });
    },
  };
}
