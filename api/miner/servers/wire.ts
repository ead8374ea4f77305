import { z } from 'zod';

/** `POST /servers/` (spec/miner.md §2.2). `hourly_cost` is in dollars per GPU. */
export const addServerBody = z.object({
  name: z
    .string()
    .regex(/^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/i, { error: 'letters, digits, dots and dashes, at most 63' }),
  validator: z.string(),
  hourly_cost: z.coerce.number().min(0).max(10_000),
  gpu_short_ref: z
    .string()
    .min(1)
    .max(40)
    .transform((ref) => ref.toLowerCase()),
  agent_api: z
    .string()
    .regex(/^https?:\/\/[^/?#]+\/?$/, { error: 'must be an http(s) URL without a path' })
    .transform((url) => url.replace(/\/$/, ''))
    .nullish(),
});

type Row = Record<string, unknown>;
const iso = (value: unknown): string | null => (value instanceof Date ? value.toISOString() : null);

export const renderGpu = (row: Row): Row => ({
  gpu_id: row.gpu_id,
  validator: row.validator,
  server_id: row.server_id,
  deployment_id: row.deployment_id,
  device_info: row.device_info,
  model_short_ref: row.model_short_ref,
  verified: row.verified,
});

/** Deployment columns of the reference's table; the sealed token and the driver's handle stay inside. */
export function renderDeployment(row: Row, { chute, gpus }: { chute: Row | undefined; gpus: Row[] }): Row {
  return {
    deployment_id: row.deployment_id,
    instance_id: row.instance_id,
    validator: row.validator,
    host: row.host,
    port: row.port,
    chute_id: row.chute_id,
    server_id: row.server_id,
    version: row.version,
    active: row.active,
    stub: row.stub,
    job_id: row.job_id,
    config_id: row.config_id,
    preemptible: row.preemptible,
    status: row.status,
    verified_at: iso(row.verified_at),
    activated_at: iso(row.activated_at),
    created_at: iso(row.created_at),
    gpus: gpus.map(renderGpu),
    chute: chute ? renderChute(chute) : null,
  };
}

function renderChute(row: Row): Row {
  const definition = (row.definition ?? {}) as Row;
  const selector = (definition.node_selector ?? {}) as Row;
  return {
    chute_id: row.chute_id,
    validator: row.validator,
    name: row.name,
    version: row.version,
    image: definition.image ?? null,
    filename: definition.filename ?? null,
    ref_str: definition.ref_str ?? null,
    supported_gpus: definition.supported_gpus ?? selector.supported_gpus ?? [],
    gpu_count: selector.gpu_count ?? 1,
    chutes_version: definition.chutes_version ?? null,
    preemptible: definition.preemptible ?? true,
    tee: definition.tee ?? false,
    ban_reason: row.ban_reason,
  };
}

/** Server columns and relations (spec/miner.md §2.2.1); the reference returns a kubeconfig too, a credential: not here. */
export function renderServer(row: Row, { gpus, deployments }: { gpus: Row[]; deployments: Row[] }): Row {
  return {
    server_id: row.server_id,
    validator: row.validator,
    name: row.name,
    ip_address: row.ip_address,
    agent_api: row.agent_url,
    verification_port: row.verification_port,
    status: STATUS_WORDS[String(row.status)] ?? row.status,
    created_at: iso(row.created_at),
    labels: row.labels,
    seed: null,
    gpu_count: row.gpu_count,
    cpu_per_gpu: row.cpu_per_gpu,
    memory_per_gpu: row.memory_per_gpu,
    hourly_cost: Number(row.hourly_cost_micro_usd) / 1_000_000,
    locked: row.locked,
    is_tee: row.is_tee,
    gpus: gpus.map(renderGpu),
    deployments,
  };
}

const STATUS_WORDS: Record<string, string> = {
  provisioning: 'Provisioning',
  ready: 'Ready',
  unknown: 'Unknown',
  removing: 'Removing',
};
