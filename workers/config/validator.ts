import { z } from 'zod';
import type { NodePolicy } from '../../workflows/validator/nodes/messages.ts';
import { flag, hexSecret, milliseconds, port, readEnv, secret, url } from './read-env.ts';

const schema = z.object({
  CANOPY_MODE: z.enum(['development', 'production']).default('development'),
  /** `false` in production: registration then needs a one-time token (spec/validator-api.md §2.1 note 1). */
  CANOPY_OPEN_REGISTRATION: flag().default(true),
  /** Bitmask and balance a new user starts with; a private network gives its developers bit 11 (deploy public chutes). */
  CANOPY_NEW_USER_PERMISSIONS: z.coerce.number().int().min(0).default(0),
  /** Registrations one address may try in 24 hours (spec/validator-api.md §1.7). */
  CANOPY_SIGNUPS_PER_IP: z.coerce.number().int().min(1).default(3),
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
  CANOPY_REGISTRY: z
    .string()
    .regex(/^[a-z0-9.-]+(:[0-9]+)?$/)
    .optional(),
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
  CANOPY_TRUSTED_PROXIES: z
    .string()
    .default('loopback')
    .transform((value) => value.split(',').map((item) => item.trim())),
  /** Nodes and instances on loopback and private addresses: for one-machine networks only. */
  CANOPY_ALLOW_PRIVATE_HOSTS: flag().default(false),

  CANOPY_FORGE: z.enum(['buildah', 'process']).default('buildah'),
  CANOPY_BUILD_DEADLINE_MS: milliseconds().default(7_200_000),
  CANOPY_BUILD_MAX_BYTES: z.coerce
    .number()
    .int()
    .positive()
    .default(20 * 1024 ** 3),
  CANOPY_CONTEXT_MAX_BYTES: z.coerce
    .number()
    .int()
    .positive()
    .default(512 * 1024 ** 2),
  CANOPY_SDK_VERSION: z.string().default('0.6.9'),
  /** Append `RUN pip install chutes==…` to every Dockerfile, as the reference does. The runtime is injected, so only
   * chutes written with the SDK need it. */
  CANOPY_FORGE_INSTALL_SDK: flag().default(false),
  /** Network of build steps; default `host` in development, `none` in production. */
  CANOPY_FORGE_NETWORK: z.enum(['none', 'host']).optional(),
  /** Files of the host that every build step sees read-only: `host:inside,…` (a CA bundle, a pip.conf). */
  CANOPY_FORGE_MOUNTS: z
    .string()
    .regex(/^(\/[^:,]+:\/[^:,]+)?(,\/[^:,]+:\/[^:,]+)*$/)
    .default(''),
  CANOPY_FORGE_MEMORY_MB: z.coerce.number().int().min(64).default(4096),
  CANOPY_FORGE_CPUS: z.coerce.number().positive().default(2),
  CANOPY_FORGE_PIDS: z.coerce.number().int().min(16).default(4096),
  CANOPY_FORGE_CONCURRENCY: z.coerce.number().int().min(1).max(64).default(1),

  CANOPY_PROOF: z.enum(['none', 'simulated', 'povw']).default('simulated'),
  /** Table of how plug-in `povw` proves each GPU type; default: gpu/profiles.json of this program. */
  CANOPY_POVW_PROFILES: z.string().optional(),
  /** Prove also with rows that no card was calibrated for. Production refuses them unless this says `true`. */
  CANOPY_POVW_ALLOW_UNMEASURED: flag().optional(),
  /** How long the file of a proof is kept, of a refused one too; past it as long as a node or instance has it as its own. */
  CANOPY_PROOF_RETENTION_MS: milliseconds()
    .min(3_600_000)
    .default(7 * 86_400_000),
  /** How often a GPU is proven again. */
  CANOPY_REVERIFY_INTERVAL_MS: milliseconds().default(86_400_000),
  CANOPY_CLAIM_DEADLINE_MS: milliseconds().default(7_200_000),
  CANOPY_PROOF_DEADLINE_MS: milliseconds().default(150_000),
  CANOPY_ACTIVATION_DEADLINE_MS: milliseconds().default(5_400_000),
  CANOPY_PROBE_INTERVAL_MS: milliseconds().default(30_000),
  CANOPY_SILENCE_GRACE_MS: milliseconds().default(120_000),
  /** What requests under way get when a serving instance is removed; a miner's DELETE waits for it. Default 10 s in
   * production, 2 s in development. */
  CANOPY_DRAIN_MS: z.coerce.number().int().min(0).max(15_000).optional(),

  CANOPY_LISTEN_HOST: z.string().default('127.0.0.1'),
  CANOPY_LISTEN_PORT: port().default(8000),
  CANOPY_METRICS_PORT: port().default(0),
  /** The gateway hands what is not for a chute to the API, and socket traffic to the socket server. */
  CANOPY_API_UPSTREAM: url().optional(),
  CANOPY_SOCKETS_UPSTREAM: url().optional(),
  CANOPY_SPOOL_DIR: z.string().optional(),
  /** Per API key at one gateway: sustained rate and what may come at once. */
  CANOPY_KEY_REQUESTS_PER_MINUTE: z.coerce.number().positive().default(6000),
  CANOPY_KEY_BURST: z.coerce.number().int().min(1).default(500),
  /** The body of a call to a chute: its size, and how long it may take to arrive. */
  CANOPY_BODY_LIMIT_BYTES: z.coerce
    .number()
    .int()
    .positive()
    .default(32 * 1024 ** 2),
  CANOPY_BODY_TIMEOUT_MS: milliseconds().default(60_000),
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
    throw new Error(
      'Configuration is not usable:\n  CANOPY_PROOF: production refuses trust levels below povw (spec/sdk-and-runtime.md §5.8)',
    );
  }
  return config;
}

/** What every node of this network is held to. */
export const nodePolicyOf = (config: ValidatorConfig): NodePolicy => ({
  plugin: config.CANOPY_PROOF,
  reverifyEveryMs: config.CANOPY_REVERIFY_INTERVAL_MS,
  silenceGraceMs: config.CANOPY_SILENCE_GRACE_MS,
  retryEveryMs: 5000,
  sweepAfterRegistrationMs: 600_000,
});

const forgeSchema = schema.pick({
  CANOPY_MODE: true,
  CANOPY_DATABASE_URL: true,
  CANOPY_DATABASE_POOL: true,
  CANOPY_TEMPORAL_ADDRESS: true,
  CANOPY_TEMPORAL_NAMESPACE: true,
  CANOPY_S3_ENDPOINT: true,
  CANOPY_S3_REGION: true,
  CANOPY_S3_BUCKET: true,
  CANOPY_S3_ACCESS_KEY: true,
  CANOPY_S3_SECRET_KEY: true,
  CANOPY_REGISTRY: true,
  CANOPY_REGISTRY_INSECURE: true,
  CANOPY_FORGE: true,
  CANOPY_BUILD_MAX_BYTES: true,
  CANOPY_CONTEXT_MAX_BYTES: true,
  CANOPY_FORGE_NETWORK: true,
  CANOPY_FORGE_MOUNTS: true,
  CANOPY_FORGE_MEMORY_MB: true,
  CANOPY_FORGE_CPUS: true,
  CANOPY_FORGE_PIDS: true,
  CANOPY_FORGE_CONCURRENCY: true,
  CANOPY_METRICS_PORT: true,
  CANOPY_WORK_DIR: true,
  CANOPY_LOG_LEVEL: true,
});
export type ForgeConfig = ReturnType<typeof loadForgeConfig>;

/** What a build host needs and no more: it runs strangers' code, so the network's keys never come near it. */
export const loadForgeConfig = (env: NodeJS.ProcessEnv) => readEnv(forgeSchema, env);
