import { z } from 'zod';
import { milliseconds, port, readEnv } from './read-env.ts';

const address = z.string().regex(/^[1-9A-HJ-NP-Za-km-z]{47,49}$/, { error: 'must be an SS58 address' });

const schema = z.object({
  CANOPY_MINER_HOTKEY: address,
  /** Whose proofs are answered; comma separated. */
  CANOPY_VALIDATOR_HOTKEYS: z
    .string()
    .transform((value) =>
      value
        .split(',')
        .map((item) => item.trim())
        .filter(Boolean),
    )
    .pipe(z.array(address).min(1)),
  /** `2xh100_sxm` (comma separated groups), or a JSON list of devices as the wire has them. Unset: `nvidia-smi` is asked. */
  CANOPY_SIMULATED_GPUS: z.string().optional(),
  /** The program `graval` (`npm run build:gpu`), which proves real GPUs. Unset: TypeScript, for simulated ones only. */
  CANOPY_GRAVAL: z.string().startsWith('/').optional(),
  /** A proof nobody goes on with is dropped after this. */
  CANOPY_PROOF_IDLE_MS: milliseconds().default(300_000),
  CANOPY_LISTEN_HOST: z.string().default('127.0.0.1'),
  CANOPY_LISTEN_PORT: port().default(8200),
  CANOPY_WORK_DIR: z.string().default('.canopy/agent'),
  CANOPY_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error']).default('info'),
});

export type AgentConfig = ReturnType<typeof loadAgentConfig>;
export const loadAgentConfig = (env: NodeJS.ProcessEnv) => readEnv(schema, env);
