import type { Knex } from 'knex';
import { chooseServer } from '../../../workflows/domain/miner/choose-server.ts';
import type { DeploymentRow } from '../../../workflows/domain/miner/plan-reconcile.ts';
import type { DeploymentView, StopCode } from '../../../workflows/domain/miner/react-to.ts';
import type { DeviceInfo } from '../../../workflows/domain/protocol/launch.ts';
import type { SecretBox } from '../../clients/secret-box.ts';
import type { ServerStore } from '../inventory/server-store.ts';
import type { LocalChute } from '../policy/remote-view-store.ts';
import type { ComputeHandle } from '../compute/compute-driver.ts';

export type Reservation = { kind: 'reserved'; serverId: string; gpuIds: string[] } | { kind: 'no_gpus'; why: string };

/** All that starting the instance needs; `token` must not leave the activity that reads it. */
export interface LaunchMaterial {
  token: string;
  host: string;
  ports: { primary: number; logging: number };
  devices: DeviceInfo[];
  serverLimits: { cpuPerGpu: number; memoryPerGpuGb: number; areKnown: boolean };
}

export interface DeploymentStoreOptions {
  db: Knex;
  box: SecretBox;
  servers: ServerStore;
  validator: string;
  /** the drivers run on one host: a port is one deployment's, whatever its server */
  ports: { first: number; last: number };
  /** false for a port that something outside our rows listens on */
  isPortFree?: (port: number) => Promise<boolean>;
}

const sealContext = (deploymentId: string): string => `deployments.launch_token_sealed/${deploymentId}`;

/** Deployments, the GPUs and ports they hold, and the record of those that are over. */
export class DeploymentStore {
  readonly #db: Knex;
  readonly #box: SecretBox;
  readonly #servers: ServerStore;
  readonly #validator: string;
  readonly #ports: { first: number; last: number };
  readonly #isPortFree: (port: number) => Promise<boolean>;
  constructor({ db, box, servers, validator, ports, isPortFree = async () => true }: DeploymentStoreOptions) {
    this.#db = db;
    this.#box = box;
    this.#servers = servers;
    this.#validator = validator;
    this.#ports = ports;
    this.#isPortFree = isPortFree;
  }

  /** Row, GPUs and ports in one transaction, one such transaction at a time: no GPU is ever promised twice. */
  async reserve({
    deploymentId,
    chute,
    onlyServerId,
    driver,
    jobId = null,
  }: {
    deploymentId: string;
    chute: LocalChute;
    onlyServerId: string | null;
    driver: string;
    jobId?: string | null;
  }): Promise<Reservation> {
    return this.#db.transaction(async (tx): Promise<Reservation> => {
      await tx.raw("select pg_advisory_xact_lock(hashtext('reserve gpus'))");
      const existing = await tx('deployments').where({ deployment_id: deploymentId }).first('server_id');
      if (existing) return { kind: 'reserved', serverId: existing.server_id, gpuIds: await gpuIdsOf(tx, deploymentId) };
      const placement = chooseServer({ ...chute.needs, onlyServerId }, await this.#servers.snapshots(tx));
      if (placement.kind === 'unplaceable')
        return { kind: 'no_gpus', why: [placement.reason, ...new Set(Object.values(placement.rejections))].join(', ') };
      const { serverId, gpuIds } = placement;
      const port = await this.#freePorts(tx);
      if (port === null) return { kind: 'no_gpus', why: 'every port of the range is taken' };
      await tx('deployments').insert({
        deployment_id: deploymentId,
        validator: this.#validator,
        chute_id: chute.chuteId,
        version: chute.version,
        server_id: serverId,
        job_id: jobId,
        driver,
        status: 'reserving',
        gpu_count: gpuIds.length,
        port,
        log_port: port + 1,
      });
      const claimed = await tx('gpus')
        .whereIn('gpu_id', gpuIds)
        .whereNull('deployment_id')
        .update({ deployment_id: deploymentId });
      if (claimed !== gpuIds.length) throw new Error(`claimed ${claimed} of ${gpuIds.length} GPUs`); // rolls back
      return { kind: 'reserved', serverId, gpuIds };
    });
  }

  async #freePorts(tx: Knex): Promise<number | null> {
    const rows = await tx('deployments').whereNotNull('port').select('port');
    const taken = new Set(rows.map((row) => Number(row.port)));
    for (let port = this.#ports.first; port + 1 <= this.#ports.last; port += 2) {
      if (taken.has(port)) continue;
      if ((await this.#isPortFree(port)) && (await this.#isPortFree(port + 1))) return port;
    }
    return null;
  }

  /** The permission, its token sealed. The first one stays. */
  async recordPermission(deploymentId: string, configId: string, token: string): Promise<void> {
    await this.#db('deployments')
      .where({ deployment_id: deploymentId })
      .whereNull('config_id')
      .update({
        config_id: configId,
        launch_token_sealed: this.#box.seal(token, sealContext(deploymentId)),
        status: 'permitted',
      });
  }

  async permission(
    deploymentId: string,
  ): Promise<{ configId: string | null; chuteId: string; version: string; jobId: string | null } | null> {
    const row = await this.#db('deployments')
      .where({ deployment_id: deploymentId })
      .first('config_id', 'chute_id', 'version', 'job_id');
    return row ? { configId: row.config_id, chuteId: row.chute_id, version: row.version, jobId: row.job_id } : null;
  }

  async launchMaterial(deploymentId: string): Promise<LaunchMaterial | null> {
    const row = await this.#db('deployments')
      .join('servers', 'servers.server_id', 'deployments.server_id')
      .where({ deployment_id: deploymentId })
      .first('launch_token_sealed', 'port', 'log_port', 'ip_address', 'cpu_per_gpu', 'memory_per_gpu', 'labels');
    if (!row?.launch_token_sealed) return null;
    const gpus = await this.#db('gpus')
      .where({ deployment_id: deploymentId })
      .orderBy('device_index')
      .select('device_info');
    return {
      token: this.#box.open(row.launch_token_sealed, sealContext(deploymentId)),
      host: row.ip_address,
      ports: { primary: row.port, logging: row.log_port },
      devices: gpus.map((gpu) => gpu.device_info as DeviceInfo),
      serverLimits: {
        cpuPerGpu: row.cpu_per_gpu,
        memoryPerGpuGb: row.memory_per_gpu,
        areKnown: row.labels.host === 'known',
      },
    };
  }

  async recordStarted(deploymentId: string, handle: ComputeHandle, host: string): Promise<void> {
    await this.#db('deployments')
      .where({ deployment_id: deploymentId })
      .update({
        handle: JSON.stringify(handle),
        host,
        stub: false,
        // It may be activated, or on its way out, by the time the driver answers.
        status: this.#db.raw("case when status in ('reserving', 'permitted') then 'running' else status end"),
      });
  }

  /** Facts of the validator about the instance. They only ever add: a late one changes nothing twice. */
  async recordFact(deploymentId: string, fact: 'bound' | 'verified' | 'activated', instanceId: string): Promise<void> {
    const raw = (sql: string) => this.#db.raw(sql);
    const changes = {
      bound: {},
      verified: { verified_at: raw('coalesce(verified_at, now())') },
      activated: {
        verified_at: raw('coalesce(verified_at, now())'),
        activated_at: raw('coalesce(activated_at, now())'),
        active: true,
        stub: false,
        status: raw("case when status = 'terminating' then status else 'active' end"),
      },
    }[fact];
    await this.#db('deployments')
      .where({ deployment_id: deploymentId })
      .where((query) => void query.whereNull('instance_id').orWhere({ instance_id: instanceId }))
      .update({ instance_id: instanceId, ...changes });
  }

  async markTerminating(deploymentId: string, code: StopCode): Promise<void> {
    await this.#db('deployments')
      .where({ deployment_id: deploymentId })
      .update({
        status: 'terminating',
        active: false,
        removal_code: this.#db.raw('coalesce(removal_code, ?)', [code]),
      });
  }

  async noteMissing(deploymentId: string, what: string | null): Promise<void> {
    await this.#db('deployments')
      .where({ deployment_id: deploymentId })
      .update({ missing_what: what, missing_since: what === null ? null : this.#db.fn.now() });
  }

  /** Only when the process is gone: audit row, GPUs free, row deleted, all at once. What was never permitted leaves no audit. */
  async forget(deploymentId: string): Promise<void> {
    await this.#db.transaction(async (tx) => {
      const row = await tx('deployments').where({ deployment_id: deploymentId }).forUpdate().first();
      if (!row) return;
      if (row.config_id !== null) {
        await tx('deployment_audit')
          .insert({
            deployment_id: deploymentId,
            instance_id: row.instance_id,
            chute_id: row.chute_id,
            version: row.version,
            server_id: row.server_id,
            validator: row.validator,
            gpus: JSON.stringify(await gpuIdsOf(tx, deploymentId)),
            created_at: row.created_at,
            activated_at: row.activated_at,
            verified_at: row.verified_at,
            deleted_at: tx.fn.now(),
            removal_code: row.removal_code,
          })
          .onConflict('deployment_id')
          .ignore();
      }
      await tx('gpus').where({ deployment_id: deploymentId }).update({ deployment_id: null });
      await tx('deployments').where({ deployment_id: deploymentId }).delete();
    });
  }

  async find(deploymentId: string): Promise<{
    chuteId: string;
    instanceId: string | null;
    configId: string | null;
    status: DeploymentRow['status'];
  } | null> {
    const row = await this.#db('deployments').where({ deployment_id: deploymentId }).first();
    return row
      ? { chuteId: row.chute_id, instanceId: row.instance_id, configId: row.config_id, status: row.status }
      : null;
  }

  async idsOfServer(serverId: string): Promise<string[]> {
    return (
      await this.#db('deployments').where({ server_id: serverId }).orderBy('deployment_id').select('deployment_id')
    ).map((row) => row.deployment_id);
  }

  async views(): Promise<DeploymentView[]> {
    const rows = await this.#db('deployments').where({ validator: this.#validator }).orderBy('deployment_id');
    return rows.map((row) => ({
      deploymentId: row.deployment_id,
      chuteId: row.chute_id,
      version: row.version,
      serverId: row.server_id,
      configId: row.config_id,
      instanceId: row.instance_id,
      jobId: row.job_id,
      isTerminating: row.status === 'terminating',
    }));
  }

  async rows(): Promise<DeploymentRow[]> {
    const rows = await this.#db('deployments').where({ validator: this.#validator }).orderBy('deployment_id');
    return rows.map((row) => ({
      deploymentId: row.deployment_id,
      chuteId: row.chute_id,
      version: row.version,
      configId: row.config_id,
      instanceId: row.instance_id,
      jobId: row.job_id,
      status: row.status,
      isVerified: row.verified_at !== null,
      isActive: row.active,
      createdAtMs: (row.created_at as Date).getTime(),
      missing:
        row.missing_what === null ? null : { what: row.missing_what, sinceMs: (row.missing_since as Date).getTime() },
    }));
  }
}

async function gpuIdsOf(db: Knex, deploymentId: string): Promise<string[]> {
  const rows = await db('gpus').where({ deployment_id: deploymentId }).orderBy('gpu_id').select('gpu_id');
  return rows.map((row) => row.gpu_id);
}
