import type { Knex } from 'knex';
import type { InventoryNode } from '../../../workflows/domain/nodes/inventory.ts';
import type { AnnouncedNode, PastRegistration } from '../../../workflows/domain/nodes/node-rules.ts';
import type { ProofSummary } from '../../../workflows/domain/proof/plugin.ts';
import { publishToMiners } from '../events/event-outbox.ts';

/** A row of `nodes`; the seed as decimal text: it passes 2^53. */
export interface NodeRow {
  uuid: string;
  miner_hotkey: string;
  server_id: string | null;
  server_name: string | null;
  task_id: string;
  name: string;
  memory: number;
  major: number | null;
  minor: number | null;
  processors: number | null;
  sxm: boolean | null;
  clock_rate: number;
  max_threads_per_processor: number | null;
  concurrent_kernels: boolean | null;
  ecc: boolean | null;
  device_index: number;
  gpu_identifier: string;
  verification_host: string;
  verification_port: number;
  seed: string;
  status: string;
  trust_level: string;
  verified_at: Date | null;
  verification_error: string | null;
  proof_summary: ProofSummary | null;
  created_at: Date;
}

export interface NewNodes {
  taskId: string;
  minerHotkey: string;
  serverId: string | null;
  serverName: string | null;
  nodes: readonly AnnouncedNode[];
  /** decimal text, 1 … 2^63 − 1, one for the whole batch */
  seed: string;
}

interface InventoryRow {
  miner_hotkey: string;
  gpu_identifier: string;
  instance_id: string | null;
  verified: boolean | null;
  chute_id: string | null;
  name: string | null;
  public: boolean | null;
  username: string | null;
}

/** A proof of several GPUs as one of them keeps it. */
const ownSummary = (summary: ProofSummary, uuid: string): ProofSummary => ({
  ...summary,
  gpus: summary.gpus.filter(({ gpuUuid }) => gpuUuid === uuid),
});

const columns = (db: Knex) => ['nodes.*', db.raw('nodes.seed::text as seed')];

export class NodeStore {
  readonly #db: Knex;
  constructor(db: Knex) {
    this.#db = db;
  }

  byUuid = async (uuid: string): Promise<NodeRow | null> =>
    ((await this.#db('nodes').select(columns(this.#db)).where({ uuid }).first()) as NodeRow | undefined) ?? null;

  byTask = async (taskId: string): Promise<NodeRow[]> =>
    (await this.#db('nodes').select(columns(this.#db)).where({ task_id: taskId })) as NodeRow[];

  presentUuids = async (uuids: readonly string[]): Promise<string[]> =>
    this.#db('nodes')
      .whereIn('uuid', [...uuids])
      .orderBy('uuid')
      .pluck('uuid');

  async history(uuids: readonly string[], since: Date): Promise<PastRegistration[]> {
    const rows = (await this.#db('node_history')
      .whereIn('uuid', [...uuids])
      .where('registered_at', '>', since)) as {
      uuid: string;
      miner_hotkey: string;
      registered_at: Date;
    }[];
    return rows.map((row) => ({
      uuid: row.uuid,
      minerHotkey: row.miner_hotkey,
      registeredAtMs: row.registered_at.getTime(),
    }));
  }

  /** All or none; a unique violation of `nodes_pkey` when one of them is there already. */
  async insert({ taskId, minerHotkey, serverId, serverName, nodes, seed }: NewNodes): Promise<void> {
    await this.#db.transaction(async (trx) => {
      await trx('nodes').insert(
        nodes.map((node) => ({
          uuid: node.uuid,
          miner_hotkey: minerHotkey,
          server_id: serverId,
          server_name: serverName,
          task_id: taskId,
          name: node.name,
          memory: node.memory,
          major: node.major,
          minor: node.minor,
          processors: node.processors,
          sxm: node.sxm,
          clock_rate: node.clockRate,
          max_threads_per_processor: node.maxThreadsPerProcessor,
          concurrent_kernels: node.concurrentKernels,
          ecc: node.ecc,
          device_index: node.deviceIndex,
          gpu_identifier: node.gpuIdentifier,
          verification_host: node.verificationHost,
          verification_port: node.verificationPort,
          seed,
        })),
      );
      await trx('node_history').insert(nodes.map(({ uuid }) => ({ uuid, miner_hotkey: minerHotkey })));
    });
  }

  async markChallenged(taskId: string, uuids: readonly string[]): Promise<void> {
    await this.#db('nodes')
      .whereIn('uuid', [...uuids])
      .where({ task_id: taskId, status: 'announced' })
      .update({ status: 'challenged' });
  }

  /** One transaction: rows, and an event for each GPU that was not verified before. */
  async markVerified({
    taskId,
    uuids,
    minerHotkey,
    summary,
  }: {
    taskId: string;
    uuids: readonly string[];
    minerHotkey: string;
    summary: ProofSummary;
  }): Promise<void> {
    await this.#db.transaction(async (trx) => {
      const fresh = await trx('nodes')
        .whereIn('uuid', [...uuids])
        .where({ task_id: taskId })
        .whereNot({ status: 'verified' })
        .orderBy('uuid')
        .forUpdate()
        .pluck('uuid');
      for (const uuid of [...uuids].sort()) {
        await trx('nodes')
          .where({ uuid, task_id: taskId })
          .update({
            status: 'verified',
            verified_at: trx.fn.now(),
            verification_error: null,
            trust_level: summary.trustLevel,
            proof_summary: JSON.stringify(ownSummary(summary, uuid)),
          });
      }
      for (const gpuId of fresh as string[]) {
        await publishToMiners(trx, 'gpu_verified', { gpu_id: gpuId, miner_hotkey: minerHotkey }, { to: [minerHotkey] });
      }
    });
  }

  /** A failed GPU is not verified any more and gets a new seed; a lost one keeps when it was verified. */
  async markFailed({
    taskId,
    uuids,
    status,
    error,
    summary,
    seed,
  }: {
    taskId: string;
    uuids: readonly string[];
    status: 'failed' | 'lost';
    error: string;
    /** of the refused proof; null keeps the last one: there were no openings to judge */
    summary: ProofSummary | null;
    seed: string;
  }): Promise<void> {
    await this.#db.transaction(async (trx) => {
      for (const uuid of [...uuids].sort()) {
        await trx('nodes')
          .where({ uuid, task_id: taskId })
          .update({
            status,
            verification_error: error.slice(0, 1000),
            ...(summary ? { proof_summary: JSON.stringify(ownSummary(summary, uuid)) } : {}),
            ...(status === 'failed'
              ? {
                  verified_at: null,
                  trust_level: 'none',
                  seed: trx.raw("case when status = 'failed' then seed else ?::bigint end", [seed]),
                }
              : {}),
          });
      }
    });
  }

  /** Every verified GPU, or one miner's, with what runs on it. */
  async inventory(minerHotkey: string | null): Promise<InventoryNode[]> {
    const rows = await this.#db('nodes')
      .leftJoin('instance_nodes', 'instance_nodes.node_uuid', 'nodes.uuid')
      .leftJoin('instances', 'instances.instance_id', 'instance_nodes.instance_id')
      .leftJoin('chutes', 'chutes.chute_id', 'instances.chute_id')
      .leftJoin('users', 'users.user_id', 'chutes.user_id')
      .where('nodes.status', 'verified')
      .modify((query) => void (minerHotkey && query.where('nodes.miner_hotkey', minerHotkey)))
      .orderBy('nodes.uuid')
      .select<InventoryRow[]>(
        'nodes.miner_hotkey',
        'nodes.gpu_identifier',
        'instances.instance_id',
        'instances.verified',
        'chutes.chute_id',
        'chutes.name',
        'chutes.public',
        'users.username',
      );
    return rows.map((row) => ({
      minerHotkey: row.miner_hotkey,
      gpu: row.gpu_identifier,
      running: row.instance_id
        ? {
            instanceId: row.instance_id,
            chuteId: row.chute_id ?? '',
            name: row.name ?? '',
            username: row.username ?? '',
            isPublic: row.public ?? false,
            isVerified: row.verified ?? false,
          }
        : null,
    }));
  }

  /** The instance that runs on the GPU, if any. */
  async instanceOn(uuid: string): Promise<string | null> {
    const row: { instance_id: string } | undefined = await this.#db('instance_nodes')
      .where({ node_uuid: uuid })
      .first('instance_id');
    return row?.instance_id ?? null;
  }

  /** Announced or in their first proof. */
  async countUnproven(minerHotkey: string): Promise<number> {
    const { count } = (await this.#db('nodes')
      .where({ miner_hotkey: minerHotkey })
      .whereIn('status', ['announced', 'challenged'])
      .count<{ count: number }>({ count: '*' })
      .first()) ?? { count: 0 };
    return count;
  }

  /** False when there was no such row. A foreign key violation while an instance runs on it. */
  async delete({ uuid, minerHotkey }: { uuid: string; minerHotkey: string }): Promise<boolean> {
    return this.#db.transaction(async (trx) => {
      const deleted = await trx('nodes').where({ uuid, miner_hotkey: minerHotkey }).delete();
      if (deleted > 0) {
        await trx('node_history')
          .where({ uuid })
          .whereNull('removed_at')
          .update({ removed_at: trx.fn.now(), removal_code: 'requested' });
      }
      return deleted > 0;
    });
  }
}
