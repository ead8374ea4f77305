import { z } from 'zod';
import type { NodeRow } from '../../../activities/validator/nodes/node-store.ts';
import type { ApartPair } from '../../../activities/validator/nodes/sweep-activities.ts';
import { SUSPECT_TIMES } from '../../../workflows/domain/nodes/sweep-windows.ts';
import { GPU_TYPES, type GpuType } from '../../../workflows/domain/gpus/gpu-table.ts';
import type { MinerInventory } from '../../../workflows/domain/nodes/inventory.ts';
import type { AnnouncedNode } from '../../../workflows/domain/nodes/node-rules.ts';
import { wireBoolean } from '../../http/wire-types.ts';

const whole = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const smallInteger = z
  .number()
  .int()
  .min(0)
  .max(2 ** 31 - 1);

export const nodeArgs = z.object({
  uuid: z.string().regex(/^[0-9a-f]{32}$/, { error: '32 lower-case hex digits, without GPU- and dashes' }),
  name: z.string().min(1).max(128),
  memory: whole,
  processors: smallInteger.nullish(),
  clock_rate: z.number().positive().max(1e9),
  max_threads_per_processor: smallInteger.nullish(),
  major: smallInteger.nullish(),
  minor: smallInteger.nullish(),
  sxm: z.boolean().nullish(),
  concurrent_kernels: z.boolean().nullish(),
  ecc: z.boolean().nullish(),
  device_index: z.number().int().min(0).max(9),
  gpu_identifier: z.string().max(32),
  verification_host: z.string().min(1).max(253),
  verification_port: z.number().int().min(80).max(65_535),
});
/** More than ten nodes are a 400 of their own, after the caller's standing (§2.5). */
export const multiNodeArgs = z.object({
  server_id: z.string().max(128).nullish(),
  server_name: z.string().max(128).nullish(),
  nodes: z.array(nodeArgs).max(1000),
});
export const statusQuery = z.object({ task_id: z.string().max(256) });
export const nodesQuery = z.object({
  detailed: wireBoolean().default(false),
  hotkey: z.string().max(64).optional(),
  model: z.string().max(128).optional(),
});

export const neverTogetherQuery = z.object({
  /** sweeps in which one of the two broke beside the other */
  at_least: z.coerce.number().int().min(1).default(SUSPECT_TIMES),
});
export const renderPair = ({ broke, beside, times, firstAt, lastAt }: ApartPair) => ({
  broke,
  beside,
  times,
  first_at: firstAt.toISOString(),
  last_at: lastAt.toISOString(),
});

export const parseNode = (node: z.output<typeof nodeArgs>): AnnouncedNode => ({
  uuid: node.uuid,
  name: node.name,
  memory: node.memory,
  major: node.major ?? null,
  minor: node.minor ?? null,
  processors: node.processors ?? null,
  sxm: node.sxm ?? null,
  clockRate: node.clock_rate,
  maxThreadsPerProcessor: node.max_threads_per_processor ?? null,
  concurrentKernels: node.concurrent_kernels ?? null,
  ecc: node.ecc ?? null,
  deviceIndex: node.device_index,
  gpuIdentifier: node.gpu_identifier,
  verificationHost: node.verification_host,
  verificationPort: node.verification_port,
});

const moment = z.string().nullable();
export const nodeResponse = z.object({
  uuid: z.string(),
  miner_hotkey: z.string(),
  server_id: z.string().nullable(),
  server_name: z.string().nullable(),
  name: z.string(),
  memory: z.number(),
  major: z.number().nullable(),
  minor: z.number().nullable(),
  processors: z.number().nullable(),
  sxm: z.boolean().nullable(),
  clock_rate: z.number(),
  max_threads_per_processor: z.number().nullable(),
  concurrent_kernels: z.boolean().nullable(),
  ecc: z.boolean().nullable(),
  device_index: z.number(),
  gpu_identifier: z.string(),
  verification_host: z.string(),
  verification_port: z.number(),
  seed: z.bigint(),
  created_at: moment,
  verified_at: moment,
  verification_error: z.string().nullable(),
  status: z.string(),
  trust_level: z.string(),
});
export const registrationResponse = z.object({ nodes: z.array(nodeResponse), task_id: z.string() });
export const verificationStatus = z.object({
  status: z.enum(['pending', 'verified', 'failed', 'error']),
  detail: z.string().optional(),
  error: z.string().optional(),
});
export const deletionResponse = z.object({ node_id: z.string(), deleted: z.literal(true) });

/** The raw row, as the reference answers; `seed` keeps all its digits. */
export const renderNode = ({
  task_id: _task,
  proof_summary: _proof,
  ...row
}: NodeRow): z.input<typeof nodeResponse> => ({
  ...row,
  seed: BigInt(row.seed),
  created_at: row.created_at.toISOString(),
  verified_at: row.verified_at?.toISOString() ?? null,
});

/** All of one task, so one answer: the worst of its nodes. */
export function renderVerification(
  rows: readonly Pick<NodeRow, 'status' | 'verification_error'>[],
): z.output<typeof verificationStatus> {
  if (rows.length === 0)
    return { status: 'error', error: 'no nodes of this task: they were deleted or never registered' };
  const bad = rows.find(({ status }) => status === 'failed' || status === 'lost');
  if (bad) return { status: 'failed', detail: bad.verification_error ?? bad.status };
  return { status: rows.every(({ status }) => status === 'verified') ? 'verified' : 'pending' };
}

const supported = ({
  nameCheck,
  memoryGb,
  computeCapability: cc,
  processors,
  clockMhz,
  maxThreadsPerProcessor,
  hourlyRateMicroUsd,
  graval,
}: GpuType) => ({
  model_name_check: nameCheck.source,
  memory: memoryGb,
  ...(cc
    ? {
        major: cc.major,
        minor: cc.minor,
        tensor_cores: cc.tensorCores,
        concurrent_kernels: cc.concurrentKernels,
        ecc: cc.ecc,
        sxm: cc.sxm,
      }
    : {}),
  processors,
  clock_rate: clockMhz,
  max_threads_per_processor: maxThreadsPerProcessor,
  hourly_rate: hourlyRateMicroUsd / 1e6,
  graval: { iterations: graval.iterations, estimate: graval.estimateS },
});
export const SUPPORTED_GPUS = Object.fromEntries(GPU_TYPES.map((type) => [type.ref, supported(type)]));

export const renderDetailed = (miners: readonly MinerInventory[]) =>
  Object.fromEntries(
    miners.map(({ minerHotkey, provisioned, idle }) => [
      minerHotkey,
      {
        provisioned: provisioned.map(({ gpu, chute }) => ({
          gpu,
          chute: {
            username: chute.username,
            name: chute.name,
            chute_id: chute.chuteId,
            verified: chute.isVerified,
            instance_id: chute.instanceId,
          },
        })),
        idle,
      },
    ]),
  );
