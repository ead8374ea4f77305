import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import type { Knex } from 'knex';
import type { ClientBase } from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import type { InvocationRecord } from '../../../workflows/domain/metering/record.ts';

/** Column of the load table, its type, and its value in a record. */
const COLUMNS: readonly [
  name: string,
  type: string,
  value: (record: InvocationRecord) => string | number | boolean | null,
][] = [
  ['invocation_id', 'uuid', (r) => r.invocationId],
  ['parent_invocation_id', 'uuid', (r) => r.parentInvocationId],
  ['user_id', 'uuid', (r) => r.userId],
  ['chute_id', 'uuid', (r) => r.chuteId],
  ['chute_user_id', 'uuid', (r) => r.chuteUserId],
  ['function_name', 'text', (r) => r.functionName],
  ['image_id', 'uuid', (r) => r.imageId],
  ['image_user_id', 'uuid', (r) => r.imageUserId],
  ['instance_id', 'uuid', (r) => r.instanceId],
  ['miner_uid', 'integer', (r) => r.minerUid],
  ['miner_hotkey', 'text', (r) => r.minerHotkey],
  ['started_at', 'timestamptz', (r) => new Date(r.startedAtMs).toISOString()],
  ['completed_at', 'timestamptz', (r) => new Date(r.completedAtMs).toISOString()],
  ['error_message', 'text', (r) => r.errorMessage?.replaceAll('\u0000', '') ?? null],
  ['compute_multiplier', 'double precision', (r) => r.computeMultiplier],
  ['metrics', 'jsonb', (r) => JSON.stringify(r.metrics)],
  ['free', 'boolean', (r) => r.isFree],
  ['amount_micro_usd', 'bigint', (r) => r.amountMicroUsd],
  ['credit_user_id', 'uuid', (r) => r.creditUserId],
  ['quota_counter', 'text', (r) => r.quota?.counter ?? null],
  ['quota_day', 'date', (r) => r.quota?.day ?? null],
  ['quota_counts', 'numeric', (r) => r.quota?.counts ?? null],
];
const INVOCATION_COLUMNS = COLUMNS.slice(0, 18)
  .map(([name]) => name)
  .join(', ');

/**
 * Loads attempts, counts the free ones against their day and writes the money moved to the ledger, all or nothing.
 * Idempotent by invocation id: what is there already neither counts nor costs again. `batch` names the ledger entries.
 */
export async function loadInvocations(
  db: Knex,
  records: readonly InvocationRecord[],
  batch: string,
): Promise<{ loaded: number }> {
  const connection = (await db.client.acquireConnection()) as ClientBase;
  try {
    await connection.query('begin');
    await connection.query(
      `create temp table spooled (${COLUMNS.map(([name, type]) => `${name} ${type}`).join(', ')}) on commit drop`,
    );
    const lines = Readable.from(
      records.map((record) => `${COLUMNS.map(([, , value]) => copyCell(value(record))).join('\t')}\n`),
    );
    await pipeline(lines, connection.query(copyFrom('copy spooled from stdin')));
    const { rows } = await connection.query<{ loaded: number }>(LOAD, [batch]);
    await connection.query('commit');
    return { loaded: rows[0]?.loaded ?? 0 };
  } catch (err) {
    await connection.query('rollback').catch(() => {}); // the connection may be what failed
    throw err;
  } finally {
    await db.client.releaseConnection(connection);
  }
}

// A user may be gone by now: nothing is owed by or to nobody, and the ledger's reference would refuse the whole batch.
const LOAD = `
  with once as (select distinct on (invocation_id) * from spooled order by invocation_id),
  fresh as (
    insert into invocations (${INVOCATION_COLUMNS}) select ${INVOCATION_COLUMNS} from once on conflict do nothing returning invocation_id
  ),
  mine as (select once.* from once join fresh using (invocation_id)),
  counted as (
    insert into quota_usage (user_id, chute_id, day, used)
    select user_id, quota_counter, quota_day, sum(quota_counts) from mine where quota_counter is not null
    group by 1, 2, 3 order by 1, 2, 3
    on conflict (user_id, chute_id, day) do update set used = quota_usage.used + excluded.used
  ),
  moved as (
    select user_id, 'usage' as reason, -sum(amount_micro_usd) as amount from mine where amount_micro_usd <> 0 group by 1
    union all
    select credit_user_id, 'chute_income', sum(amount_micro_usd) from mine where amount_micro_usd <> 0 and credit_user_id is not null group by 1
  ),
  booked as (
    insert into ledger (entry_id, user_id, amount_micro_usd, reason, reference)
    select gen_random_uuid(), moved.user_id, amount::bigint, reason, $1 || '/' || moved.user_id from moved join users using (user_id)
    where amount <> 0
  )
  select count(*)::int as loaded from fresh`;

/** COPY's text form. */
function copyCell(value: string | number | boolean | null): string {
  if (value === null) return '\\N';
  if (typeof value === 'boolean') return value ? 't' : 'f';
  const escapes: Record<string, string> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' };
  return String(value).replace(/[\\\t\n\r]/g, (character) => escapes[character] ?? character);
}

/** Adds what a gateway saw: `failures` in a row since the last success there, or a success that resets the count. */
export async function recordInstanceOutcomes(
  db: Knex,
  outcomes: readonly { instanceId: string; failures: number; succeeded: boolean }[],
): Promise<void> {
  if (outcomes.length === 0) return;
  await db.raw(
    `update instances set
       consecutive_failures = case when seen.succeeded then seen.failures else consecutive_failures + seen.failures end,
       last_queried_at = now()
     from jsonb_to_recordset(?::jsonb) as seen("instanceId" uuid, failures integer, succeeded boolean)
     where instance_id = seen."instanceId"`,
    [JSON.stringify([...outcomes].sort((a, b) => (a.instanceId < b.instanceId ? -1 : 1)))],
  );
}

/** Marks keys as used; at most once a minute a key, or the routing table would reload all the time. */
export async function touchApiKeys(db: Knex, keyIds: readonly string[]): Promise<void> {
  if (keyIds.length === 0) return;
  await db('api_keys')
    .whereIn('api_key_id', [...keyIds].sort())
    .update({ last_used_at: db.fn.now() });
}
