import type { Knex } from 'knex';

const DAY_MS = 86_400_000;
const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
export const partitionName = (day: string): string => `invocations_${day.replaceAll('-', '')}`;

/**
 * The partition of one UTC day, before its first row where possible. Rows that came early went to the default partition
 * and are moved: a partition whose rows lie elsewhere cannot be attached. Does nothing when it is there.
 */
export async function ensurePartition(db: Knex, dayMs: number): Promise<boolean> {
  const [day, next] = [dayOf(dayMs), dayOf(dayMs + DAY_MS)];
  const name = partitionName(day);
  return db.transaction(async (trx) => {
    await trx.raw("select pg_advisory_xact_lock(hashtext('invocations_partitions'))");
    const { rows } = await trx.raw<{ rows: { is_there: boolean }[] }>('select to_regclass(?) is not null as is_there', [
      name,
    ]);
    if (rows[0]?.is_there) return false;
    // Writers wait for the move of one day, which is empty when made ahead.
    await trx.raw('lock table invocations in share row exclusive mode');
    await trx.raw('create table ?? (like invocations including defaults including constraints)', [name]);
    await trx.raw(
      `with moved as (delete from invocations_default where started_at >= ?::date at time zone 'utc' and started_at < ?::date at time zone 'utc' returning *)
       insert into ?? select * from moved`,
      [day, next, name],
    );
    // Bounds are written out: they are part of the table's definition, not values of a statement.
    await trx.raw(
      `alter table invocations attach partition ?? for values from ('${day} 00:00:00+00') to ('${next} 00:00:00+00')`,
      [name],
    );
    return true;
  });
}

/** Today's and the next days' partitions; returns the names of the new ones. */
export async function ensurePartitions(db: Knex, nowMs: number, daysAhead: number): Promise<string[]> {
  const made: string[] = [];
  for (let day = 0; day <= daysAhead; day++) {
    const dayMs = nowMs + day * DAY_MS;
    if (await ensurePartition(db, dayMs)) made.push(partitionName(dayOf(dayMs)));
  }
  return made;
}
