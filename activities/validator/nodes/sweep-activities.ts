import { randomInt } from 'node:crypto';
import type { Knex } from 'knex';
import { REGISTRATION_MS } from '../../../workflows/domain/nodes/node-rules.ts';
import {
  apartAfter,
  sweepWindows,
  type Company,
  type DueMiner,
  type SweepWindow,
  type SweptFleet,
} from '../../../workflows/domain/nodes/sweep-windows.ts';
import type { IdleNode, SweptNode } from '../../../workflows/validator/nodes/messages.ts';
import { NodeStore, type NodeRow } from './node-store.ts';
import { fullTaskId, provableNodeOf, randomSeed, taskIdOf } from './node-tasks.ts';

/** Reserved for a sweep until `releaseNodes`, or this long if the sweep dies: no instance claims it meanwhile. */
export const SWEEP_LEASE_MS = 600_000;
/** A card that is registered anew under the same hotkey within this is still known. */
const APART_MS = 30 * 86_400_000;
/** More in one window than any miner has; the rest comes with the next one. */
const MAX_SWEPT = 1500;

export interface SweepActivityDeps {
  db: Knex;
  /** mean time between two sweeps of a miner */
  everyMs: number;
  /** uniform in [0, 1) */
  random?: () => number;
}

/**
 * Which miners are swept when, and which GPUs a sweep holds. The moments are drawn at random and told to nobody: a miner that
 * knew them would lend hardware from one name to another in between.
 */
export function createSweepActivities({ db, everyMs, random = unpredictable }: SweepActivityDeps) {
  const inMs = (ms: number) => db.raw("now() + ? * interval '1 millisecond'", [Math.round(ms)]);

  return {
    /**
     * Miners whose moment has come, each with its company (`sweepWindows`). New miners get a first moment; those without GPUs are
     * forgotten, once nobody is left that they would have to be seen with.
     */
    async dueSweepsOf(): Promise<SweepWindow[]> {
      await db.raw(
        `insert into miner_sweeps (miner_hotkey, next_at)
           select distinct miner_hotkey, now() + random() * ? * interval '1 millisecond' from nodes
         on conflict (miner_hotkey) do nothing`,
        [everyMs],
      );
      await db('miner_sweeps')
        .whereNotIn('miner_hotkey', db('nodes').select('miner_hotkey'))
        .whereRaw('(apart_until is null or apart_until < now())')
        .delete();
      const due: DueMiner[] = await db('miner_sweeps')
        .whereIn('miner_hotkey', db('nodes').select('miner_hotkey'))
        .where('next_at', '<=', db.fn.now())
        .orderBy('next_at')
        .select({ minerHotkey: 'miner_hotkey', apartFrom: 'apart_from' });
      return due.length === 0 ? [] : sweepWindows({ due, fleets: await verifiedFleets(), random });
    },

    /** Brings the miner's next sweep to a random moment within `withinMs`; a sooner one stays. */
    async requestSweep({ minerHotkey, withinMs }: { minerHotkey: string; withinMs: number }): Promise<void> {
      await db('miner_sweeps')
        .insert({ miner_hotkey: minerHotkey, next_at: inMs(random() * withinMs) })
        .onConflict('miner_hotkey')
        .merge({ next_at: db.raw('least(miner_sweeps.next_at, excluded.next_at)') });
    },

    /**
     * Every GPU of the miners that nothing runs on, reserved, and the moment of their next sweep drawn: what is asked for from now
     * on comes after this one. Run again for the same sweep it gives the same. A claim and a sweep meet at the row's lock:
     * whoever comes second sees the other.
     */
    async reserveIdleNodes({
      minerHotkeys,
      sweepId,
    }: {
      minerHotkeys: string[];
      sweepId: string;
    }): Promise<IdleNode[]> {
      return db.transaction(async (trx) => {
        await trx('nodes').whereIn('miner_hotkey', minerHotkeys).orderBy('uuid').forUpdate().select('uuid');
        const rows = (await trx('nodes')
          .whereIn('miner_hotkey', minerHotkeys)
          // A registration under way proves its own; one that was lost does not count for ever.
          .whereRaw("(status in ('verified', 'failed', 'lost') or created_at < ?)", [inMs(-REGISTRATION_MS)])
          .whereRaw('(sweep_until is null or sweep_until < now() or sweep_id = ?)', [sweepId])
          .whereNotExists(trx('instance_nodes').whereRaw('instance_nodes.node_uuid = nodes.uuid').select(trx.raw('1')))
          .orderBy('uuid')
          .limit(MAX_SWEPT)
          .select('*')) as NodeRow[];
        const uuids = rows.map(({ uuid }) => uuid);
        await trx('nodes')
          .whereIn('uuid', uuids)
          .update({ sweep_id: sweepId, sweep_until: inMs(SWEEP_LEASE_MS) });
        for (const minerHotkey of [...minerHotkeys].sort()) {
          await trx('miner_sweeps')
            .where({ miner_hotkey: minerHotkey })
            .whereRaw('last_sweep_id is distinct from ?', [sweepId])
            .update({ next_at: inMs(drawMs()), last_at: trx.fn.now(), last_sweep_id: sweepId });
        }
        return rows.map(idleNode);
      });
    },

    /** What came of these GPUs, and claimable again, in one transaction: nothing is claimed between the two. */
    async concludeNodes({
      sweepId,
      minerHotkey,
      nodes,
    }: {
      sweepId: string;
      minerHotkey: string;
      nodes: SweptNode[];
    }): Promise<void> {
      await db.transaction(async (trx) => {
        const store = new NodeStore(trx);
        const byUuid = [...nodes].sort((one, other) => (one.uuid < other.uuid ? -1 : 1));
        const uuids = byUuid.map(({ uuid }) => uuid);
        await trx('nodes').whereIn('uuid', uuids).orderBy('uuid').forUpdate().select('uuid');
        for (const { uuid, taskId, outcome } of byUuid) {
          const row = { taskId: fullTaskId(minerHotkey, taskId), uuids: [uuid] };
          if (outcome.kind === 'verified') {
            await store.markVerified({ ...row, minerHotkey, summary: outcome.summary });
          } else if (outcome.kind !== 'unclear') {
            await store.markFailed({
              ...row,
              status: outcome.kind === 'failed' ? 'failed' : 'lost',
              error: outcome.reason,
              summary: outcome.kind === 'failed' ? outcome.summary : null,
              seed: randomSeed(),
            });
          }
        }
        await trx('nodes').whereIn('uuid', uuids).where({ sweep_id: sweepId }).update(FREE);
      });
    },

    /** Whom each of a window's miners has to be seen with from now on (`apartAfter`). */
    async recordCompany(company: Company): Promise<void> {
      await db.transaction(async (trx) => {
        const rows = await trx('miner_sweeps')
          .whereIn('miner_hotkey', [...company.held, ...company.broke])
          .orderBy('miner_hotkey')
          .forUpdate()
          .select<{ miner_hotkey: string; apart_from: string[] }[]>('miner_hotkey', 'apart_from');
        for (const { miner_hotkey: minerHotkey, apart_from: before } of rows) {
          const apart = apartAfter(minerHotkey, before, company);
          await trx('miner_sweeps')
            .where({ miner_hotkey: minerHotkey })
            .update({ apart_from: apart, apart_until: apart.length > 0 ? inMs(APART_MS) : null });
        }
      });
    },

    /** Claimable again; the sweep's own reservations only. */
    async releaseNodes({ sweepId, uuids }: { sweepId: string; uuids: string[] }): Promise<void> {
      await db('nodes').whereIn('uuid', uuids).where({ sweep_id: sweepId }).update(FREE);
    },
  };

  async function verifiedFleets(): Promise<SweptFleet[]> {
    const { rows }: { rows: SweptFleet[] } = await db.raw(
      `select node.miner_hotkey as "minerHotkey",
              array_agg(distinct lower(node.verification_host)) as hosts,
              array_agg(distinct node.gpu_identifier) as "gpuTypes",
              (count(*) filter (where busy.node_uuid is null))::int as "idleGpus",
              extract(epoch from now() - sweeps.last_at)::float8 * 1000 as "sinceSweepMs",
              sweeps.apart_from as "apartFrom"
         from nodes node
         join miner_sweeps sweeps using (miner_hotkey)
         left join instance_nodes busy on busy.node_uuid = node.uuid
        where node.status = 'verified'
        group by node.miner_hotkey, sweeps.last_at, sweeps.apart_from
        order by node.miner_hotkey`,
    );
    return rows;
  }

  /** Memoryless: a moment just after a sweep is no safer than any other. At most three periods. */
  function drawMs(): number {
    return Math.min(-Math.log(1 - random()), 3) * everyMs;
  }
}
const FREE = { sweep_id: null, sweep_until: null };

const unpredictable = (): number => randomInt(2 ** 32) / 2 ** 32;

export type SweepActivities = ReturnType<typeof createSweepActivities>;

const idleNode = (row: NodeRow): IdleNode => ({
  ...provableNodeOf(row),
  taskId: taskIdOf(row.task_id),
  minerHotkey: row.miner_hotkey,
  serverId: row.server_id,
});
