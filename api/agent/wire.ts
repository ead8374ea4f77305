import { z } from 'zod';

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const gpuUuid = z.string().regex(/^[0-9a-f]{32}$/);
const whole = z
  .number()
  .int()
  .min(0)
  .max(2 ** 53 - 1);
const session = z.string().regex(/^[A-Za-z0-9:_-]{1,100}$/);

/** Bounds of form only: what this server can prove depends on its prover (`whyNotProvable`). */
const profile = z.object({
  name: z.string().max(64),
  n: whole,
  k: whole,
  blocks: whole,
  steps: whole,
  fillSamples: whole,
  walkSamples: whole,
  fillLimitMs: whole,
  walkLimitMs: whole,
});
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
const samples = z.object({
  fill: z.array(z.object({ block: whole, row: whole, column: whole })).max(4096),
  walk: z.array(z.object({ step: whole, row: whole, column: whole })).max(4096),
});
export const openRequest = z.object({ session, gpu_uuid: gpuUuid, samples });
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
