import { randomInt } from 'node:crypto';
import type { Knex } from 'knex';
import { REGISTRATION_MS } from '../../../workflows/domain/nodes/node-rules.ts';
import { nextSweepMs } from '../../../workflows/domain/nodes/sweep-moments.ts';
import {
  SUSPECT_TIMES,
  sweepWindows,
  type DueMiner,
  type SweepWindow,
  type SweptFleet,
  type WindowMember,
} from '../../../workflows/domain/nodes/sweep-windows.ts';
import type { IdleNode, SweptNode } from '../../../workflows/validator/nodes/messages.ts';
import { NodeStore, type NodeRow } from './node-store.ts';
import { fullTaskId, provableNodeOf, randomSeed, taskIdOf } from './node-tasks.ts';

/** Reserved for a sweep until `releaseNodes`, or this long if the sweep dies: no instance claims it meanwhile. */
export const SWEEP_LEASE_MS = 1_200_000;
/** So many sweeps begin at one look; the next is half a minute later. */
const MAX_DUE = 50;
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
     * Miners whose moment has come, each with its company (`sweepWindows`). Miners without GPUs are forgotten, new ones get a
     * first moment.
     */
    async dueSweepsOf(): Promise<SweepWindow[]> {
      await db.raw(
        `insert into miner_sweeps (miner_hotkey, next_at)
           select distinct miner_hotkey, now() + random() * ? * interval '1 millisecond' from nodes
         on conflict (miner_hotkey) do nothing`,
        [everyMs],
      );
      await db('miner_sweeps').whereNotIn('miner_hotkey', db('nodes').select('miner_hotkey')).delete();
      const { rows: due }: { rows: DueMiner[] } = await db.raw(
        `select miner_hotkey as "minerHotkey", array(
            select other from (
              select beside as other, times from sweep_pairs where broke = miner_hotkey
              union all
              select broke, times from sweep_pairs where beside = miner_hotkey
            ) pairs group by other order by sum(times) desc, random()) as "apartFrom"
           from miner_sweeps where next_at <= now() order by next_at limit ?`,
        [MAX_DUE],
      );
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
          .orderByRaw('miner_hotkey = ? desc, md5(uuid || ?)', [minerHotkeys[0] ?? '', sweepId]) // uuids are the miner's to choose
          .limit(MAX_SWEPT)
          .select('*')) as NodeRow[];
        const uuids = rows.map(({ uuid }) => uuid);
        await trx('nodes')
          .whereIn('uuid', uuids)
          .update({ sweep_id: sweepId, sweep_until: inMs(SWEEP_LEASE_MS) });
        const present = new Set(rows.map((row) => row.miner_hotkey));
        for (const minerHotkey of [...minerHotkeys].sort()) {
          await trx('miner_sweeps')
            .where({ miner_hotkey: minerHotkey })
            .whereRaw('last_sweep_id is distinct from ?', [sweepId])
            .update({
              next_at: inMs(nextSweepMs(everyMs, random)),
              last_sweep_id: sweepId,
              ...(present.has(minerHotkey) ? { last_at: trx.fn.now() } : {}),
            });
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
        const ours = new Set<string>(
          await trx('nodes')
            .whereIn('uuid', uuids)
            .where({ sweep_id: sweepId })
            .orderBy('uuid')
            .forUpdate()
            .pluck('uuid'),
        );
        for (const { uuid, taskId, outcome } of byUuid) {
          if (!ours.has(uuid)) continue; // another sweep has it by now, and the last word
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

    /**
     * Which names held beside which in a window. Answers with the pairs that chance explains less and less: one broke beside the
     * other `SUSPECT_TIMES` or more, and never since have both held with as many GPUs as were there then.
     */
    async recordCompany({ sweepId, members }: { sweepId: string; members: WindowMember[] }): Promise<ApartPair[]> {
      const [held, broke] = [members.filter((member) => member.held), members.filter((member) => !member.held)];
      const columns = (some: readonly WindowMember[]) => [
        some.map(({ minerHotkey }) => minerHotkey),
        some.map(({ gpus }) => gpus),
      ];
      return db.transaction(async (trx) => {
        await trx.raw("delete from sweep_pairs where last_at < now() - interval '30 days'");
        await trx.raw(
          `delete from sweep_pairs using unnest(?::text[], ?::int[]) as one (hotkey, gpus), unnest(?::text[], ?::int[]) as other (hotkey, gpus)
            where broke = one.hotkey and broke_gpus <= one.gpus and beside = other.hotkey and beside_gpus <= other.gpus`,
          [...columns(held), ...columns(held)],
        );
        await trx.raw(
          `insert into sweep_pairs as known (broke, beside, broke_gpus, beside_gpus, times, last_sweep_id)
             select one.hotkey, other.hotkey, one.gpus, other.gpus, 1, ?
               from unnest(?::text[], ?::int[]) as one (hotkey, gpus), unnest(?::text[], ?::int[]) as other (hotkey, gpus)
              order by 1, 2
           on conflict (broke, beside) do update
             set times = known.times + 1, last_at = now(), last_sweep_id = excluded.last_sweep_id,
                 broke_gpus = greatest(known.broke_gpus, excluded.broke_gpus),
                 beside_gpus = greatest(known.beside_gpus, excluded.beside_gpus)
             where known.last_sweep_id <> excluded.last_sweep_id`,
          [sweepId, ...columns(broke), ...columns(held)],
        );
        return apartPairs(trx, SUSPECT_TIMES, sweepId);
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
              extract(epoch from now() - sweeps.last_at)::float8 * 1000 as "sinceSweepMs"
         from nodes node
         join miner_sweeps sweeps using (miner_hotkey)
         left join instance_nodes busy on busy.node_uuid = node.uuid
        where node.status = 'verified'
        group by node.miner_hotkey, sweeps.last_at
        order by node.miner_hotkey`,
    );
    return rows;
  }
}
const FREE = { sweep_id: null, sweep_until: null };

const unpredictable = (): number => randomInt(2 ** 32) / 2 ** 32;

/** Two names, one of which broke beside the other, and which have not held together since. */
export interface ApartPair {
  broke: string;
  beside: string;
  times: number;
  firstAt: Date;
  lastAt: Date;
}

/** Pairs with at least so many times, the most frequent first; those of one sweep where it is given. */
export async function apartPairs(db: Knex, atLeast: number, sweepId?: string): Promise<ApartPair[]> {
  return db('sweep_pairs')
    .where('times', '>=', atLeast)
    .where(sweepId === undefined ? {} : { last_sweep_id: sweepId })
    .orderBy([{ column: 'times', order: 'desc' }, 'broke', 'beside'])
    .limit(1000)
    .select<ApartPair[]>('broke', 'beside', 'times', { firstAt: 'first_at', lastAt: 'last_at' });
}

export type SweepActivities = ReturnType<typeof createSweepActivities>;

const idleNode = (row: NodeRow): IdleNode => ({
  ...provableNodeOf(row),
  taskId: taskIdOf(row.task_id),
  minerHotkey: row.miner_hotkey,
  serverId: row.server_id,
});
