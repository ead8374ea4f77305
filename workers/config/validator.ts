import { z } from 'zod';
import { flag, hexSecret, milliseconds, port, readEnv, secret, url } from './read-env.ts';

const schema = z.object({
  CANOPY_MODE: z.enum(['development', 'production']).default('development'),
  /** `false` in production: registration then needs a one-time token (spec/validator-api.md §2.1 note 1). */
  CANOPY_OPEN_REGISTRATION: flag().default(true),
  /** Bitmask and balance a new user starts with; a private network gives its developers bit 11 (deploy public chutes). */
  CANOPY_NEW_USER_PERMISSIONS: z.coerce.number().int().min(0).default(0),
  CANOPY_DEFAULT_QUOTA: z.coerce.number().int().min(0).default(200),

  CANOPY_DATABASE_URL: secret(/^postgres(ql)?:\/\//),
  CANOPY_DATABASE_POOL: z.coerce.number().int().min(1).max(200).default(10),
  CANOPY_TEMPORAL_ADDRESS: z.string().default('127.0.0.1:7233'),
  CANOPY_TEMPORAL_NAMESPACE: z.string().default('validator'),
  CANOPY_TEMPORAL_UI_URL: url().optional(),
  CANOPY_S3_ENDPOINT: url(),
  CANOPY_S3_REGION: z.string().default('us-east-1'),
  CANOPY_S3_BUCKET: z.string(),
  CANOPY_S3_ACCESS_KEY: z.string(),
  CANOPY_S3_SECRET_KEY: secret(/.{1,}/),
  /** `host:port` of the OCI registry; unset where images are archives. */
  CANOPY_REGISTRY: z.string().regex(/^[a-z0-9.-]+(:[0-9]+)?$/).optional(),
  CANOPY_REGISTRY_INSECURE: flag().default(false),

  /** Where clients reach this network; launch URLs are built from it. */
  CANOPY_PUBLIC_URL: url(),
  CANOPY_NETUID: z.coerce.number().int().min(0).default(64),
  CANOPY_VALIDATOR_SEED: hexSecret(32),
  CANOPY_METAGRAPH_FILE: z.string().optional(),
  /** HMAC key for API keys; AES-256-GCM key for secrets at rest; text whose SHA-256 signs launch tokens. */
  CANOPY_KEY_PEPPER: hexSecret(32),
  CANOPY_SECRETS_KEY: hexSecret(32),
  CANOPY_LAUNCH_KEY: secret(),
  /** CIDRs or addresses whose `X-Forwarded-For` is believed. */
  CANOPY_TRUSTED_PROXIES: z.string().default('loopback').transform((value) => value.split(',').map((item) => item.trim())),
  /** Nodes and instances on loopback and private addresses: for one-machine networks only. */
  CANOPY_ALLOW_PRIVATE_HOSTS: flag().default(false),

  CANOPY_FORGE: z.enum(['buildah', 'process']).default('buildah'),
  CANOPY_BUILD_DEADLINE_MS: milliseconds().default(7_200_000),
  CANOPY_BUILD_MAX_BYTES: z.coerce.number().int().positive().default(20 * 1024 ** 3),
  CANOPY_CONTEXT_MAX_BYTES: z.coerce.number().int().positive().default(512 * 1024 ** 2),
  CANOPY_SDK_VERSION: z.string().default('0.6.9'),

  CANOPY_PROOF: z.enum(['none', 'simulated']).default('simulated'),
  CANOPY_CLAIM_DEADLINE_MS: milliseconds().default(7_200_000),
  CANOPY_PROOF_DEADLINE_MS: milliseconds().default(150_000),
  CANOPY_ACTIVATION_DEADLINE_MS: milliseconds().default(5_400_000),
  CANOPY_PROBE_INTERVAL_MS: milliseconds().default(30_000),
  CANOPY_SILENCE_GRACE_MS: milliseconds().default(120_000),

  CANOPY_LISTEN_HOST: z.string().default('127.0.0.1'),
  CANOPY_LISTEN_PORT: port().default(8000),
  CANOPY_METRICS_PORT: port().default(0),
  /** The gateway hands what is not for a chute to the API, and socket traffic to the socket server. */
  CANOPY_API_UPSTREAM: url().optional(),
  CANOPY_SOCKETS_UPSTREAM: url().optional(),
  CANOPY_SPOOL_DIR: z.string().optional(),
  /** Work and cache files of this program. */
  CANOPY_WORK_DIR: z.string().default('.canopy/work'),
  CANOPY_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info'),
  /** JSON of what the landing page lists (name, url, kind), written by whoever deploys. */
  CANOPY_SERVICES: z.string().default('[]'),
});

export type ValidatorConfig = ReturnType<typeof loadValidatorConfig>;

/** Everything a validator-side program reads from its environment, once. Throws naming every bad variable. */
export function loadValidatorConfig(env: NodeJS.ProcessEnv) {
  const config = readEnv(schema, env);
  if (config.CANOPY_MODE === 'production' && (config.CANOPY_PROOF === 'simulated' || config.CANOPY_PROOF === 'none')) {
    throw new Error('Configuration is not usable:\n  CANOPY_PROOF: production refuses trust levels below povw (spec/sdk-and-runtime.md §5.8)');
  }
  return config;
}
