import type { Knex } from 'knex';
import type { ServerSnapshot } from '../../../workflows/domain/miner/choose-server.ts';
import type { DeviceInfo } from '../../../workflows/domain/protocol/launch.ts';

export type ServerStatus = 'provisioning' | 'ready' | 'unknown' | 'removing';

export interface NewServer {
  serverId: string;
  validator: string;
  name: string;
  agentUrl: string;
  gpuShortRef: string;
  hourlyCostMicroUsd: number;
  cpuPerGpu: number;
  memoryPerGpuGb: number;
  labels: Record<string, string>;
  gpus: { gpuId: string; deviceIndex: number; device: DeviceInfo; modelShortRef: string }[];
}

/** A miner's servers and GPUs. `hourly_cost_micro_usd` is per GPU (spec/miner.md §4.1). */
export class ServerStore {
  readonly #db: Knex;
  constructor(db: Knex) {
    this.#db = db;
  }

  /** Server and GPUs in one transaction; the same again changes nothing. False: a GPU or the name is another server's. */
  async track(server: NewServer): Promise<boolean> {
    const { hostname, port, protocol } = new URL(server.agentUrl);
    return this.#db.transaction(async (tx) => {
      await tx.raw('select pg_advisory_xact_lock(hashtext(?))', [`server ${server.name}`]);
      const gpuIds = server.gpus.map((gpu) => gpu.gpuId);
      const foreign = await tx('gpus').whereIn('gpu_id', gpuIds).whereNot('server_id', server.serverId).first('gpu_id');
      const namesake = await tx('servers')
        .where({ name: server.name })
        .whereNot('server_id', server.serverId)
        .first('server_id');
      if (foreign || namesake) return false;
      await tx('servers')
        .insert({
          server_id: server.serverId,
          validator: server.validator,
          name: server.name,
          ip_address: hostname,
          verification_port: Number(port) || (protocol === 'https:' ? 443 : 80),
          agent_url: server.agentUrl,
          status: 'provisioning',
          gpu_count: server.gpus.length,
          gpu_short_ref: server.gpuShortRef,
          cpu_per_gpu: server.cpuPerGpu,
          memory_per_gpu: server.memoryPerGpuGb,
          hourly_cost_micro_usd: server.hourlyCostMicroUsd,
          labels: JSON.stringify(server.labels),
          last_seen_at: tx.fn.now(),
        })
        .onConflict('server_id')
        .ignore();
      if (gpuIds.length > 0)
        await tx('gpus')
          .insert(
            server.gpus.map((gpu) => ({
              gpu_id: gpu.gpuId,
              server_id: server.serverId,
              validator: server.validator,
              device_index: gpu.deviceIndex,
              device_info: JSON.stringify(gpu.device),
              model_short_ref: gpu.modelShortRef,
            })),
          )
          .onConflict('gpu_id')
          .ignore();
      return true;
    });
  }

  /** `seed` is a 63-bit integer as text. */
  async recordTask(serverId: string, taskId: string, seed: string | null): Promise<void> {
    await this.#db('servers').where({ server_id: serverId }).update({ task_id: taskId, seed });
  }

  async markVerified(serverId: string): Promise<void> {
    await this.#db.transaction(async (tx) => {
      await tx('gpus').where({ server_id: serverId }).update({ verified: true });
      await tx('servers').where({ server_id: serverId, status: 'provisioning' }).update({ status: 'ready' });
    });
  }

  async markGpuVerified(gpuId: string): Promise<void> {
    await this.#db('gpus').where({ gpu_id: gpuId }).update({ verified: true });
  }

  async setLocked(serverId: string, locked: boolean): Promise<void> {
    await this.#db('servers').where({ server_id: serverId }).update({ locked });
  }

  /** A removed server never becomes ready again by a late health look. */
  async setHealth(serverId: string, isAnswering: boolean): Promise<ServerStatus | null> {
    const [row] = await this.#db('servers')
      .where({ server_id: serverId })
      .whereIn('status', ['ready', 'unknown'])
      .update({
        status: isAnswering ? 'ready' : 'unknown',
        ...(isAnswering ? { last_seen_at: this.#db.fn.now() } : {}),
      })
      .returning<{ status: ServerStatus }[]>('status');
    return row?.status ?? null;
  }

  async markRemoving(serverId: string): Promise<void> {
    await this.#db('servers').where({ server_id: serverId }).update({ status: 'removing', locked: true });
  }

  async find(serverId: string): Promise<{
    name: string;
    agentUrl: string;
    validator: string;
    status: ServerStatus;
    taskId: string | null;
    gpuShortRef: string;
  } | null> {
    const row = await this.#db('servers').where({ server_id: serverId }).first();
    return row
      ? {
          name: row.name,
          agentUrl: row.agent_url,
          validator: row.validator,
          status: row.status,
          taskId: row.task_id,
          gpuShortRef: row.gpu_short_ref,
        }
      : null;
  }

  async gpusOf(
    serverId: string,
  ): Promise<{ gpuId: string; deviceIndex: number; device: DeviceInfo; modelShortRef: string }[]> {
    const rows = await this.#db('gpus').where({ server_id: serverId }).orderBy('device_index');
    return rows.map((row) => ({
      gpuId: row.gpu_id,
      deviceIndex: row.device_index,
      device: row.device_info,
      modelShortRef: row.model_short_ref,
    }));
  }

  /** Server and its GPUs; refuses by its foreign key while a deployment is left. */
  async remove(serverId: string): Promise<void> {
    await this.#db('servers').where({ server_id: serverId }).delete();
  }

  /** What `chooseServer` decides on. */
  async snapshots(db: Knex = this.#db): Promise<ServerSnapshot[]> {
    const servers = await db('servers')
      .select('server_id', 'status', 'locked', 'is_tee', 'hourly_cost_micro_usd')
      .orderBy('server_id');
    const gpus = await db('gpus')
      .select('gpu_id', 'server_id', 'model_short_ref', 'verified', 'deployment_id')
      .orderBy('gpu_id');
    return servers.map((server) => ({
      serverId: server.server_id,
      status: server.status,
      isLocked: server.locked,
      isTee: server.is_tee,
      hourlyCostMicroUsd: Number(server.hourly_cost_micro_usd),
      gpus: gpus
        .filter((gpu) => gpu.server_id === server.server_id)
        .map((gpu) => ({
          gpuId: gpu.gpu_id,
          modelShortRef: gpu.model_short_ref,
          isVerified: gpu.verified,
          deploymentId: gpu.deployment_id,
        })),
    }));
  }
}
