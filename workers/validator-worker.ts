/** All workflows of the validator, and the activities that need neither a build host nor a GPU: queue `validator`. */
import { join } from 'node:path';
import { createLogger } from '../activities/clients/log.ts';
import { loadHotkey } from '../activities/clients/hotkey.ts';
import { connectImageRegistry } from '../activities/clients/image-registry.ts';
import { connectDatabase } from '../activities/clients/postgres.ts';
import { BlobStore } from '../activities/clients/s3.ts';
import { SecretBox } from '../activities/clients/secret-box.ts';
import { connectTemporal } from '../activities/clients/temporal.ts';
import { createChuteActivities } from '../activities/validator/chutes/chute-activities.ts';
import { createExportActivities } from '../activities/validator/exports/export-activities.ts';
import { createHousekeepingActivities } from '../activities/validator/housekeeping/housekeeping-activities.ts';
import { createBuildLogStore } from '../activities/validator/images/build-log-store.ts';
import { createImageActivities } from '../activities/validator/images/image-activities.ts';
import { createImageStore } from '../activities/validator/images/image-store.ts';
import { createInstanceActivities } from '../activities/validator/instances/instance-activities.ts';
import { createMetagraphActivities } from '../activities/validator/metagraph/metagraph-activities.ts';
import { createNodeActivities } from '../activities/validator/nodes/node-activities.ts';
import { createSweepActivities } from '../activities/validator/nodes/sweep-activities.ts';
import { profilesOf } from '../activities/validator/proof/choose-profile.ts';
import { loadProfileTable } from '../activities/validator/proof/profile-table.ts';
import { createProofSessionActivities } from '../activities/validator/proof/proof-session-activities.ts';
import { chooseProfile } from '../workflows/domain/proof/profile-rows.ts';
import { TASK_QUEUES } from '../workflows/task-queues.ts';
import { workflowBundle } from './bundle.ts';
import { loadValidatorConfig, nodePolicyOf } from './config/validator.ts';
import { mergeActivities } from './merge-activities.ts';
import { runWorkers } from './run-worker.ts';
import { ensureValidatorSchedules } from './schedules.ts';

const config = loadValidatorConfig(process.env);
const log = createLogger('validator-worker', config.CANOPY_LOG_LEVEL);
const [bundle, hotkey, temporal] = await Promise.all([
  workflowBundle(join(import.meta.dirname, '../workflows/validator.ts'), join(config.CANOPY_WORK_DIR, 'bundles')),
  loadHotkey(config.CANOPY_VALIDATOR_SEED.reveal()),
  connectTemporal(config.CANOPY_TEMPORAL_ADDRESS, config.CANOPY_TEMPORAL_NAMESPACE),
]);
const rows = config.CANOPY_PROOF === 'povw' ? await loadProfileTable(config.CANOPY_POVW_PROFILES) : [];
const allowsUnmeasured = config.CANOPY_POVW_ALLOW_UNMEASURED ?? config.CANOPY_MODE !== 'production';
const db = connectDatabase({
  url: config.CANOPY_DATABASE_URL.reveal(),
  poolMax: config.CANOPY_DATABASE_POOL,
  applicationName: 'validator-worker',
});
const blobs = new BlobStore({
  endpoint: config.CANOPY_S3_ENDPOINT,
  region: config.CANOPY_S3_REGION,
  bucket: config.CANOPY_S3_BUCKET,
  accessKey: config.CANOPY_S3_ACCESS_KEY,
  secretKey: config.CANOPY_S3_SECRET_KEY.reveal(),
});
const box = new SecretBox(config.CANOPY_SECRETS_KEY.reveal());
const registry = config.CANOPY_REGISTRY
  ? connectImageRegistry({ host: config.CANOPY_REGISTRY, insecure: config.CANOPY_REGISTRY_INSECURE })
  : null;

if (config.CANOPY_PROOF === 'povw') {
  const unmeasured = rows.filter(({ measured }) => measured === null).map(({ gpu }) => gpu);
  const fields = { event: 'proof.profiles', measured: rows.length - unmeasured.length, unmeasured, allowsUnmeasured };
  log[unmeasured.length > 0 ? 'warn' : 'info'](fields, 'proof.profiles');
}
const nodeActivities = createNodeActivities({
  db,
  blobs,
  hotkey,
  config,
  whyNotProvable: (type) => {
    const choice = config.CANOPY_PROOF === 'povw' ? chooseProfile(rows, type, { allowsUnmeasured }) : null;
    return choice?.kind === 'unusable' ? choice.detail : null;
  },
});
await ensureValidatorSchedules(temporal.client, { netuid: config.CANOPY_NETUID, nodes: nodePolicyOf(config) });
await runWorkers({
  program: 'validator-worker',
  temporalAddress: config.CANOPY_TEMPORAL_ADDRESS,
  namespace: config.CANOPY_TEMPORAL_NAMESPACE,
  log,
  metricsPort: config.CANOPY_METRICS_PORT,
  worker: [
    {
      taskQueue: TASK_QUEUES.validator,
      workflowBundle: bundle,
      activities: mergeActivities(
        createImageActivities({ images: createImageStore(db), logs: createBuildLogStore(db), blobs, registry }),
        createChuteActivities({
          db,
          blobs,
          box,
          deadlines: {
            claimMs: config.CANOPY_CLAIM_DEADLINE_MS,
            proofMs: config.CANOPY_PROOF_DEADLINE_MS,
            activationMs: config.CANOPY_ACTIVATION_DEADLINE_MS,
            probeIntervalMs: config.CANOPY_PROBE_INTERVAL_MS,
            silenceGraceMs: config.CANOPY_SILENCE_GRACE_MS,
            drainMs: config.CANOPY_DRAIN_MS ?? (config.CANOPY_MODE === 'production' ? 10_000 : 2_000),
          },
        }),
        createInstanceActivities({ db, box, config }),
        nodeActivities,
        createSweepActivities({ db, everyMs: config.CANOPY_REVERIFY_INTERVAL_MS }),
        createProofSessionActivities({ profileFor: profilesOf({ rows, allowsUnmeasured }) }),
        createMetagraphActivities({ db, file: config.CANOPY_METAGRAPH_FILE }),
        createExportActivities({ db, blobs }),
        createHousekeepingActivities({ db, blobs, proofRetentionMs: config.CANOPY_PROOF_RETENTION_MS }),
      ),
    },
    // Agents may answer slowly on purpose; a claim must find a slot all the same.
    { taskQueue: TASK_QUEUES.agents, activities: nodeActivities, maxConcurrentActivityTaskExecutions: 1000 },
    { taskQueue: TASK_QUEUES.openings, activities: nodeActivities, maxConcurrentActivityTaskExecutions: 16 },
  ],
  close: async () => {
    await db.destroy();
    blobs.close();
    await temporal.close();
  },
});
