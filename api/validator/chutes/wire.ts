import { z } from 'zod';
import { gpuType } from '../../../workflows/domain/gpus/gpu-table.ts';
import { TRUST_LEVELS } from '../../../workflows/domain/proof/messages.ts';

/** Shapes of the chute routes (spec/validator-api.md §2.4.1, §5.2). Unknown fields are ignored. */

const blankToNull = z
  .string()
  .nullish()
  .transform((value) => (value?.trim() ? value : null));
const schemaDocument = z
  .record(z.string(), z.unknown())
  .nullish()
  .transform((value) => value ?? {});

const cord = z
  .object({
    method: z.string().min(1).max(16),
    path: z.string().regex(/^(\/[a-z][a-z0-9_]*)+$/i),
    function: z.string().min(1).max(256),
    stream: z.boolean(),
    passthrough: z
      .boolean()
      .nullish()
      .transform((value) => value ?? false),
    public_api_path: z
      .string()
      .regex(/^(\/[a-z][a-z0-9_-]*)+$/i)
      .nullish()
      .transform((value) => value ?? null),
    public_api_method: z
      .string()
      .nullish()
      .transform((value) => value ?? null),
    input_schema: schemaDocument,
    output_schema: schemaDocument,
    minimal_input_schema: schemaDocument,
    output_content_type: z
      .string()
      .max(256)
      .nullish()
      .transform((value) => value ?? null),
  })
  .refine(
    (value) =>
      value.public_api_path === null || value.public_api_method === 'GET' || value.public_api_method === 'POST',
    {
      error: 'public_api_method must be GET or POST',
      path: ['public_api_method'],
    },
  );

const gpuRefs = z
  .array(
    z
      .string()
      .refine((ref) => gpuType(ref) !== null, { error: 'unknown GPU' })
      .transform((ref) => ref.toLowerCase()),
  )
  .nullish()
  .transform((value) => value ?? null);

export const nodeSelectorArgs = z.object({
  gpu_count: z.number().int().min(1).max(8).default(1),
  min_vram_gb_per_gpu: z.number().int().min(16).max(140).default(16),
  include: gpuRefs,
  exclude: gpuRefs,
  dynamic: z
    .boolean()
    .nullish()
    .transform((value) => value ?? false),
  max_hourly_price_per_gpu: z
    .number()
    .gt(0)
    .lt(10)
    .nullish()
    .transform((value) => value ?? null),
});

export const chuteArgs = z.object({
  name: z
    .string()
    .min(3)
    .max(127)
    .regex(/^(?:([a-zA-Z0-9_.-]+)\/)*([a-z0-9][a-z0-9_./-]*)$/i),
  tagline: z
    .string()
    .max(1024)
    .nullish()
    .transform((value) => value ?? ''),
  readme: z
    .string()
    .max(16_384)
    .nullish()
    .transform((value) => value ?? ''),
  tool_description: z
    .string()
    .max(16_384)
    .nullish()
    .transform((value) => value ?? null),
  logo_id: blankToNull.pipe(z.uuid().nullable()),
  image: z.string().min(1).max(300),
  public: z.boolean(),
  code: z.string().max(150_000),
  filename: z
    .string()
    .max(128)
    .regex(/^[a-z][a-z0-9_]*\.py$/),
  ref_str: z
    .string()
    .max(256)
    .regex(/^[a-z][a-z0-9_]*:[a-z][a-z0-9_]*$/),
  standard_template: z
    .enum(['vllm', 'diffusion', 'tei', 'embedding'])
    .nullish()
    .transform((value) => value ?? null),
  node_selector: nodeSelectorArgs,
  cords: z
    .array(cord)
    .max(100)
    .nullish()
    .transform((value) => value ?? []),
  jobs: z
    .array(z.record(z.string(), z.unknown()))
    .max(100)
    .nullish()
    .transform((value) => value ?? []),
  concurrency: z
    .number()
    .int()
    .min(1)
    .max(256)
    .nullish()
    .transform((value) => value ?? 1),
  revision: z
    .string()
    .regex(/^[a-f0-9]{40}$/)
    .nullish()
    .transform((value) => value ?? null),
  max_instances: z
    .number()
    .int()
    .min(1)
    .max(100)
    .nullish()
    .transform((value) => value ?? 1),
  scaling_threshold: z
    .number()
    .min(0)
    .max(1)
    .nullish()
    .transform((value) => value ?? 0.75),
  shutdown_after_seconds: z
    .number()
    .int()
    .min(60)
    .max(604_800)
    .nullish()
    .transform((value) => value ?? 300),
  allow_external_egress: z
    .boolean()
    .nullish()
    .transform((value) => value ?? false),
  /** trusted execution is a trust level here: a chute that asks for it runs nowhere else */
  tee: z
    .boolean()
    .nullish()
    .transform((value) => value ?? false),
  canopy: z.object({ minimum_trust_level: z.enum(TRUST_LEVELS).default('none') }).optional(),
});
export type ChuteArgs = z.output<typeof chuteArgs>;

const flagQuery = (fallback: boolean) =>
  z
    .string()
    .default(String(fallback))
    .refine((text) => /^(true|false|1|0|yes|no|on|off|t|f|y|n)$/i.test(text), { error: 'not a boolean' })
    .transform((text) => /^(true|1|yes|on|t|y)$/i.test(text));

export const listQuery = z.object({
  include_public: flagQuery(false),
  template: z.string().optional(),
  name: z.string().max(200).optional(),
  exclude: z.string().max(200).optional(),
  image: z.string().max(300).optional(),
  slug: z.string().max(100).optional(),
  page: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(1000).default(25),
  include_schemas: flagQuery(false),
});
export type ListQuery = z.output<typeof listQuery>;

export const deployQuery = z.object({ accept_fee: flagQuery(false) });
export const warmupQuery = z.object({ quick: flagQuery(false) });
export const explicitNullQuery = z.object({ explicit_null: flagQuery(false) });
export const shareArgs = z.object({
  chute_id_or_name: z.string().min(1).max(300),
  user_id_or_name: z.string().min(1).max(100),
});
export const targetCountArgs = z.object({ target_count: z.number().int().min(0).max(100) });

/** Only what is given is changed; blanks are ignored, as the reference does. */
export const updateArgs = z.object({
  tagline: z.string().max(1024).nullish(),
  readme: z.string().max(16_384).nullish(),
  tool_description: z.string().max(16_384).nullish(),
  logo_id: z.uuid().or(z.literal('')).nullish(),
  max_instances: z.number().int().min(1).max(100).nullish(),
  scaling_threshold: z.number().min(0).max(1).nullish(),
  shutdown_after_seconds: z.number().int().min(60).max(604_800).nullish(),
});
