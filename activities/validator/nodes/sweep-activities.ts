import { randomInt } from 'node:crypto';
import type { Knex } from 'knex';
import { gpuType } from '../../../workflows/domain/gpus/gpu-table.ts';
import { REGISTRATION_MS } from '../../../workflows/domain/nodes/node-rules.ts';
import type { ProvableNode } from '../../../workflows/validator/nodes/messages.ts';

/** Reserved for a sweep until `releaseNodes`, or this long if the sweep dies: no instance claims it meanwhile. */
export const SWEEP_LEASE_MS = 600_000;

export interface SweepActivityDeps {
  db: Knex;
  /** mean time between two sweeps of a miner */
  everyMs: number;
  /** uniform in [0, 1) */
  random?: () => number;
}

interface IdleRow {
  uuid: string;
  gpu_identifier: string;
  name: string;
  memory: number;
  clock_rate: number;
  device_index: number;
  verification_host: string;
  verification_port: number;
}

/**
 * Which miners are swept when, and which GPUs a sweep holds. The moments are drawn at random and told to nobody: a miner that
 * knew them would lend hardware from one name to another in between.
 */
export function createSweepActivities({ db, everyMs, random = unpredictable }: SweepActivityDeps) {
  const inMs = (ms: number) => db.raw("now() + ? * interval '1 millisecond'", [Math.round(ms)]);

  return {
    /**
     * Hotkeys whose moment has come, and with them all that announce GPUs on the same hosts: they begin together, so that one
     * card does not answer for two hotkeys in turn. Miners without GPUs are forgotten, new ones get a first moment.
     */
    async dueMiners(): Promise<string[]> {
      await db.raw(
        `insert into miner_sweeps (miner_hotkey, next_at)
           select distinct miner_hotkey, now() + random() * ? * interval '1 millisecond' from nodes
         on conflict (miner_hotkey) do nothing`,
        [everyMs],
      );
      await db('miner_sweeps').whereNotIn('miner_hotkey', db('nodes').select('miner_hotkey')).delete();
      const { rows }: { rows: { miner_hotkey: string }[] } = await db.raw(`
        with due as (select miner_hotkey from miner_sweeps where next_at <= now()),
          hosts as (select lower(verification_host) as host from nodes where miner_hotkey in (select miner_hotkey from due))
        select miner_hotkey from due
        union
        select miner_hotkey from nodes where lower(verification_host) in (select host from hosts)
        order by miner_hotkey`);
      return rows.map((row) => row.miner_hotkey);
    },

    /** Brings the miner's next sweep to a random moment within `withinMs`; a sooner one stays. */
    async requestSweep({ minerHotkey, withinMs }: { minerHotkey: string; withinMs: number }): Promise<void> {
      await db('miner_sweeps')
        .insert({ miner_hotkey: minerHotkey, next_at: inMs(random() * withinMs) })
        .onConflict('miner_hotkey')
        .merge({ next_at: db.raw('least(miner_sweeps.next_at, excluded.next_at)') });
    },

    /**
     * Every GPU of the miner that nothing runs on, reserved. Run again for the same sweep it gives the same ones. A claim and
     * a sweep meet at the row's lock: whoever comes second sees the other.
     */
    async reserveIdleNodes({
      minerHotkey,
      sweepId,
    }: {
      minerHotkey: string;
      sweepId: string;
    }): Promise<ProvableNode[]> {
      return db.transaction(async (trx) => {
        await trx('nodes').where({ miner_hotkey: minerHotkey }).orderBy('uuid').forUpdate().select('uuid');
        const rows = (await trx('nodes')
          .where({ miner_hotkey: minerHotkey })
          // A registration under way proves its own; one that was lost does not count for ever.
          .whereRaw("(status in ('verified', 'failed', 'lost') or created_at < ?)", [inMs(-REGISTRATION_MS)])
          .whereRaw('(sweep_until is null or sweep_until < now() or sweep_id = ?)', [sweepId])
          .whereNotExists(trx('instance_nodes').whereRaw('instance_nodes.node_uuid = nodes.uuid').select(trx.raw('1')))
          .orderBy('uuid')
          .select('*')) as IdleRow[];
        await trx('nodes')
          .whereIn(
            'uuid',
            rows.map(({ uuid }) => uuid),
          )
          .update({ sweep_id: sweepId, sweep_until: inMs(SWEEP_LEASE_MS) });
        return rows.map(provableNode);
      });
    },

    /** Claimable again; the sweep's own reservations only. */
    async releaseNodes({ sweepId, uuids }: { sweepId: string; uuids: string[] }): Promise<void> {
      await db('nodes')
        .whereIn('uuid', uuids)
        .where({ sweep_id: sweepId })
        .update({ sweep_id: null, sweep_until: null });
    },

    /** The next sweep at half to one and a half of the mean from now; run again for the same sweep it changes nothing. */
    async planNextSweep({ minerHotkey, sweepId }: { minerHotkey: string; sweepId: string }): Promise<void> {
      await db('miner_sweeps')
        .where({ miner_hotkey: minerHotkey })
        .whereRaw('last_sweep_id is distinct from ?', [sweepId])
        .update({ next_at: inMs(everyMs * (0.5 + random())), last_at: db.fn.now(), last_sweep_id: sweepId });
    },
  };
}
const unpredictable = (): number => randomInt(2 ** 32) / 2 ** 32;

export type SweepActivities = ReturnType<typeof createSweepActivities>;

const provableNode = (row: IdleRow): ProvableNode => ({
  uuid: row.uuid,
  gpuType: row.gpu_identifier.toLowerCase(),
  vramBytes: (gpuType(row.gpu_identifier)?.memoryGb ?? 0) * 1e9,
  name: row.name,
  memory: row.memory,
  clockRate: row.clock_rate,
  deviceIndex: row.device_index,
  host: row.verification_host,
  port: row.verification_port,
});
