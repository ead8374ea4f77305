import { z } from 'zod';
import { port, readEnv, secret, url } from './read-env.ts';

/** Variables of the validator's that the GPU worker needs, and no more: it may stand on a host of its own. */
const schema = z.object({
  CANOPY_TEMPORAL_ADDRESS: z.string().default('127.0.0.1:7233'),
  CANOPY_TEMPORAL_NAMESPACE: z.string().default('validator'),
  CANOPY_S3_ENDPOINT: url(),
  CANOPY_S3_REGION: z.string().default('us-east-1'),
  CANOPY_S3_BUCKET: z.string(),
  CANOPY_S3_ACCESS_KEY: z.string(),
  CANOPY_S3_SECRET_KEY: secret(/.{1,}/),
  /** Path of the program `graval` (`npm run build:gpu`), which then checks proofs; unset: this process does. */
  CANOPY_GRAVAL: z.string().optional(),
  CANOPY_METRICS_PORT: port().default(0),
  CANOPY_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info'),
});

export const loadGpuWorkerConfig = (env: NodeJS.ProcessEnv) => readEnv(schema, env);
