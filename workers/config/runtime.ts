import { z } from 'zod';
import { port, readEnv, secret } from './read-env.ts';

const json = <Schema extends z.ZodType>(schema: Schema) =>
  z.string().transform((text, context): z.output<Schema> => {
    try {
      const parsed = schema.safeParse(JSON.parse(text));
      if (parsed.success) return parsed.data;
    } catch {
      // falls through to the one message
    }
    context.addIssue({ code: 'custom', message: 'is not the expected JSON' });
    return z.NEVER;
  });
const devices = z.array(
  z.looseObject({
    uuid: z.string().regex(/^[0-9a-f]{32}$/),
    name: z.string(),
    memory: z.number(),
    clock_rate: z.number(),
  }),
);
const address = () => z.string().regex(/^[1-9A-HJ-NP-Za-km-z]{47,49}$/, { error: 'must be an SS58 address' });

/** Extra job ports (`CHUTES_PORT_TCP_9000`) come under names of their own and are read from the environment itself. */
const schema = z.object({
  CHUTES_LAUNCH_JWT: secret(/^[\w-]+\.[\w-]+\.[\w-]*$/),
  CHUTES_EXTERNAL_HOST: z.string().min(1),
  CHUTES_PORT_PRIMARY: port(),
  CHUTES_PORT_LOGGING: port(),
  CHUTES_EXECUTION_CONTEXT: z.literal('REMOTE'),
  NVIDIA_VISIBLE_DEVICES: z.string().default(''),
  CHUTES_NVIDIA_DEVICES: z.string().default(''),
  HF_HOME: z.string().default('/cache'),
  CANOPY_MINER_SS58: address(),
  CANOPY_VALIDATOR_SS58: address(),
  CANOPY_BIND_PORT: port(),
  CANOPY_BIND_LOG_PORT: port(),
  CANOPY_BIND_HOST: z.string().min(1),
  CANOPY_DEVICES: json(devices),
  CANOPY_COMMAND: json(z.array(z.string())),
  CANOPY_APP_DIR: z.string().startsWith('/'),
  CANOPY_WORK_DIR: z.string().startsWith('/'),
  /** Where the compute driver put the program `graval`. Unset: TypeScript proves, simulated GPUs only. */
  CANOPY_GRAVAL: z.string().startsWith('/').optional(),
  CANOPY_DRAIN_SECONDS: z.coerce.number().min(0).max(3600).default(30),
});

export type RuntimeConfig = ReturnType<typeof loadRuntimeConfig>;
/** What the compute driver gives an instance (`workflows/domain/protocol/runtime-env.ts`). */
export const loadRuntimeConfig = (env: NodeJS.ProcessEnv) => readEnv(schema, env);
