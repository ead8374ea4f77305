import { z } from 'zod';
import { hexSecret, milliseconds, port, readEnv, secret, url } from './read-env.ts';

const schema = z.object({
  CANOPY_DATABASE_URL: secret(/^postgres(ql)?:\/\//),
  CANOPY_DATABASE_POOL: z.coerce.number().int().min(1).max(200).default(5),
  CANOPY_TEMPORAL_ADDRESS: z.string().default('127.0.0.1:7233'),
  /** default: `miner-<first 8 of the hotkey>` */
  CANOPY_TEMPORAL_NAMESPACE: z.string().optional(),
  CANOPY_MINER_SEED: hexSecret(32),
  CANOPY_SECRETS_KEY: hexSecret(32),
  CANOPY_VALIDATOR_HOTKEY: z.string().regex(/^[1-9A-HJ-NP-Za-km-z]{47,49}$/),
  CANOPY_VALIDATOR_URL: url(),
  CANOPY_SOCKET_URL: url(),

  CANOPY_COMPUTE: z.enum(['podman', 'process']).default('podman'),
  /** `host` where the validator itself is on loopback: a network on one machine. */
  CANOPY_PODMAN_NETWORK: z.enum(['bridge', 'host']).default('bridge'),
  /** `cdi` gives containers their GPUs by the server's CDI specification (docs/deploy-docker.md); `none` where they are simulated. */
  CANOPY_PODMAN_GPUS: z.enum(['cdi', 'none']).default('none'),
  /** Instances bind ports of this range on their server; the range is the firewall rule. */
  CANOPY_PORT_RANGE: z
    .string()
    .regex(/^[0-9]+-[0-9]+$/)
    .default('31000-31999'),
  CANOPY_REGISTRY: z.string().optional(),
  /** The runtime to inject: folder with `node` and `app/` (see infra/dev/runtime-bundle.ts). */
  CANOPY_RUNTIME_DIR: z.string().optional(),
  /** The program `graval`, passed on to every instance. Unset: instances prove in TypeScript, simulated GPUs only. */
  CANOPY_GRAVAL: z.string().startsWith('/').optional(),
  CANOPY_RECONCILE_INTERVAL_MS: milliseconds().default(60_000),
  CANOPY_AUTOSCALE_INTERVAL_MS: milliseconds().default(15_000),
  CANOPY_STUB_DEADLINE_MS: milliseconds().default(1_800_000),

  CANOPY_LISTEN_HOST: z.string().default('127.0.0.1'),
  CANOPY_LISTEN_PORT: port().default(8100),
  CANOPY_METRICS_PORT: port().default(0),
  CANOPY_WORK_DIR: z.string().default('.canopy/miner'),
  CANOPY_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info'),
});

export type MinerConfig = ReturnType<typeof loadMinerConfig>;
export const loadMinerConfig = (env: NodeJS.ProcessEnv) => readEnv(schema, env);
