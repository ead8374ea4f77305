import { join } from 'node:path';
import { createLogger } from '../activities/clients/log.ts';
import { connectDatabase } from '../activities/clients/postgres.ts';
import { BlobStore } from '../activities/clients/s3.ts';
import type { BuildLimits, ImageBuilder } from '../activities/validator/forge/builder.ts';
import { createBuildahBuilder } from '../activities/validator/forge/buildah-builder.ts';
import { createForgeActivities } from '../activities/validator/forge/forge-activities.ts';
import { createProcessBuilder } from '../activities/validator/forge/process-builder.ts';
import { chooseSandbox, type Mount } from '../activities/validator/forge/sandbox.ts';
import { openWorkspace } from '../activities/validator/forge/workspace.ts';
import { createBuildLogStore } from '../activities/validator/images/build-log-store.ts';
import { createImageStore } from '../activities/validator/images/image-store.ts';
import { TASK_QUEUES } from '../workflows/task-queues.ts';
import { loadForgeConfig, type ForgeConfig } from './config/validator.ts';
import { runWorkers } from './run-worker.ts';

/** Builds images: queue `forge`, one build at a time unless told otherwise. Needs no key of the network. */
const config = loadForgeConfig(process.env);
const log = createLogger('forge-worker', config.CANOPY_LOG_LEVEL);
const limits: BuildLimits = {
  maxBytes: config.CANOPY_BUILD_MAX_BYTES,
  memoryMb: config.CANOPY_FORGE_MEMORY_MB,
  cpus: config.CANOPY_FORGE_CPUS,
  pids: config.CANOPY_FORGE_PIDS,
};
const workspace = await openWorkspace(config.CANOPY_WORK_DIR);
const swept = await workspace.sweepDead();
if (swept.length > 0) log.warn({ event: 'forge.swept', owners: swept }, 'forge.swept');
const builder = await chooseBuilder(config, workspace.dir);
log.info({ event: 'forge.ready', form: builder.form, containment: builder.containment }, 'forge.ready');

const db = connectDatabase({
  url: config.CANOPY_DATABASE_URL.reveal(),
  poolMax: config.CANOPY_DATABASE_POOL,
  applicationName: 'forge-worker',
});
const blobs = new BlobStore({
  endpoint: config.CANOPY_S3_ENDPOINT,
  region: config.CANOPY_S3_REGION,
  bucket: config.CANOPY_S3_BUCKET,
  accessKey: config.CANOPY_S3_ACCESS_KEY,
  secretKey: config.CANOPY_S3_SECRET_KEY.reveal(),
});

await runWorkers({
  program: 'forge-worker',
  temporalAddress: config.CANOPY_TEMPORAL_ADDRESS,
  namespace: config.CANOPY_TEMPORAL_NAMESPACE,
  log,
  metricsPort: config.CANOPY_METRICS_PORT,
  worker: [
    {
      taskQueue: TASK_QUEUES.forge,
      activities: createForgeActivities({
        builder,
        workspace,
        images: createImageStore(db),
        logs: createBuildLogStore(db),
        blobs,
        limits,
        log,
      }),
      // buildah's storage has one user at a time here: more builds at once are more forges
      maxConcurrentActivityTaskExecutions: builder.form === 'buildah' ? 1 : config.CANOPY_FORGE_CONCURRENCY,
      maxHeartbeatThrottleInterval: '1 second', // a cancel reaches a build with its heartbeats: soon, not after 24 s
      defaultHeartbeatThrottleInterval: '1 second',
    },
  ],
  close: async () => {
    await db.destroy();
    blobs.close();
    await workspace.close();
  },
});

async function chooseBuilder(forge: ForgeConfig, dir: string): Promise<ImageBuilder> {
  const network = forge.CANOPY_FORGE_NETWORK ?? (forge.CANOPY_MODE === 'development' ? 'host' : 'none');
  const mounts: Mount[] = forge.CANOPY_FORGE_MOUNTS.split(',')
    .filter(Boolean)
    .map((pair) => {
      const [source = '', target = ''] = pair.split(':');
      return { source, target };
    });
  if (forge.CANOPY_FORGE === 'buildah') {
    if (!forge.CANOPY_REGISTRY)
      throw new Error(
        'Configuration is not usable:\n  CANOPY_REGISTRY is missing: CANOPY_FORGE=buildah pushes its images there',
      );
    return createBuildahBuilder({
      storageDir: join(dir, 'storage'),
      registry: forge.CANOPY_REGISTRY,
      insecure: forge.CANOPY_REGISTRY_INSECURE,
      network,
      mounts,
      limits,
      env: process.env,
    });
  }
  const sandbox = await chooseSandbox({
    network,
    mounts,
    memoryMb: limits.memoryMb,
    pids: limits.pids,
    maxFileBytes: limits.maxBytes,
  });
  if (sandbox.kind === 'plain' && forge.CANOPY_MODE === 'production')
    throw new Error('forge: production does not build without isolation; install bubblewrap or use buildah');
  return createProcessBuilder(sandbox);
}
