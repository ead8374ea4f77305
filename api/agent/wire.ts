import { z } from 'zod';

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const gpuUuid = z.string().regex(/^[0-9a-f]{32}$/);
const whole = z
  .number()
  .int()
  .min(0)
  .max(2 ** 53 - 1);
const session = z.string().regex(/^[A-Za-z0-9:_-]{1,100}$/);

/** Memory and arithmetic that this prover takes on; a validator that asks for more wants the native one. */
const MAX_FILL_BYTES = 2 ** 28;
const MAX_OPERATIONS = 2 ** 33;

const profile = z
  .object({
    name: z.string().max(64),
    n: whole,
    k: whole,
    blocks: whole,
    steps: whole,
    fillSamples: whole,
    walkSamples: whole,
    fillLimitMs: whole,
    walkLimitMs: whole,
  })
  .refine(
    ({ n, k, blocks, steps }) =>
      n ** 2 * blocks + n * k * (steps + 1) <= MAX_FILL_BYTES && n ** 3 * blocks + n ** 2 * k * steps <= MAX_OPERATIONS,
    {
      error: 'profile is larger than this prover computes',
    },
  );
const binding = z.object({
  validatorNonce: hash,
  configId: z.string().max(256),
  minerHotkey: z.string().max(64),
  gpuUuid,
  gpuType: z.string().max(64),
  vramBytes: whole,
  transportPublicKey: hash,
});

export const commitRequest = z.object({ session, challenges: z.array(z.object({ binding, profile })).min(1).max(16) });
export const walkRequest = z.object({ session, nonce2: hash });
const indices = z.object({
  fill: z.array(z.object({ block: whole, row: whole, column: whole })).max(4096),
  walk: z.array(z.object({ step: whole, row: whole, column: whole })).max(4096),
});
export const openRequest = z.object({ session, samples: z.record(gpuUuid, indices) });
export const infoQuery = z.object({ challenge: hash });
export const sessionParam = z.object({ session });

export const deviceInfo = z.object({
  uuid: gpuUuid,
  name: z.string().min(1).max(64),
  memory: whole,
  clock_rate: z.number().positive(),
  major: whole.nullish(),
  minor: whole.nullish(),
  processors: whole.nullish(),
  sxm: z.boolean().nullish(),
  max_threads_per_processor: whole.nullish(),
  concurrent_kernels: z.boolean().nullish(),
  ecc: z.boolean().nullish(),
});
