/** Program `gpu worker`: recomputes the openings of proofs on queue `gpu`. Needs Temporal and S3; no database, no key. */
import { createGravalClient } from '../activities/clients/graval.ts';
import { createLogger } from '../activities/clients/log.ts';
import { BlobStore } from '../activities/clients/s3.ts';
import { createProofVerificationActivities } from '../activities/validator/proof/proof-verification-activities.ts';
import { chooseVerifier } from '../activities/validator/proof/proof-verifier.ts';
import { TASK_QUEUES } from '../workflows/task-queues.ts';
import { loadGpuWorkerConfig } from './config/gpu-worker.ts';
import { runWorkers } from './run-worker.ts';

const config = loadGpuWorkerConfig(process.env);
const log = createLogger('gpu-worker', config.CANOPY_LOG_LEVEL);
const binary = config.CANOPY_GRAVAL;
const { verifier, proofVersion } = await chooseVerifier(binary === undefined ? null : createGravalClient({ binary }));
log.info({ event: 'proof.verifier', verifier: verifier.name, proofVersion, binary: binary ?? null }, 'proof.verifier');
const blobs = new BlobStore({
  endpoint: config.CANOPY_S3_ENDPOINT,
  region: config.CANOPY_S3_REGION,
  bucket: config.CANOPY_S3_BUCKET,
  accessKey: config.CANOPY_S3_ACCESS_KEY,
  secretKey: config.CANOPY_S3_SECRET_KEY.reveal(),
});

await runWorkers({
  program: 'gpu-worker',
  temporalAddress: config.CANOPY_TEMPORAL_ADDRESS,
  namespace: config.CANOPY_TEMPORAL_NAMESPACE,
  log,
  metricsPort: config.CANOPY_METRICS_PORT,
  worker: [
    {
      taskQueue: TASK_QUEUES.gpu,
      activities: createProofVerificationActivities({ blobs, verifier }),
      maxConcurrentActivityTaskExecutions: 2, // each is one core's work: more would only wait
    },
  ],
  close: async () => blobs.close(),
});
