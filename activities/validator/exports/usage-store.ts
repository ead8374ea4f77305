import type { Knex } from 'knex';
import { INVOCATION_COLUMNS } from '../../../workflows/domain/metering/export-csv.ts';

const TIME = `'YYYY-MM-DD HH24:MI:SS.US'`;

/** The last day's served calls, newest first, columns as in the hourly files. */
export async function recentCalls(
  db: Knex,
  { hotkey, limit }: { hotkey: string | null; limit: number },
): Promise<Record<string, unknown>[]> {
  const columns = INVOCATION_COLUMNS.map((name) =>
    db.raw(name.endsWith('_at') ? `to_char(${name} at time zone 'utc', ${TIME}) as ${name}` : name),
  );
  return db('invocations')
    .select(columns)
    .whereRaw("invocations.started_at > now() - interval '1 day'")
    .whereNull('error_message')
    .where(hotkey === null ? {} : { miner_hotkey: hotkey })
    .orderBy([{ column: 'invocations.started_at', order: 'desc' }, { column: 'invocation_id' }])
    .limit(limit);
}

const LAST_DAYS = `i.started_at >= date_trunc('day', now() at time zone 'utc') at time zone 'utc' - interval '10 days'`;
const DATE = `to_char(i.started_at at time zone 'utc', 'YYYY-MM-DD')`;

/** Eleven UTC days by public chute: dollars charged and calls served. */
export async function dailyUsage(db: Knex): Promise<Record<string, unknown>[]> {
  const { rows } = await db.raw(
    `select i.chute_id, ${DATE} as date, (sum(amount_micro_usd) / 1e6)::float8 as usd_amount, count(*)::int as invocation_count
     from invocations i join chutes c on c.chute_id = i.chute_id and c.public
     where ${LAST_DAYS} and error_message is null group by 1, 2 order by 2 desc, 1`,
  );
  return rows;
}

/** Token figures by public vllm chute and day; speeds are means over calls that have them. */
export async function llmStats(db: Knex): Promise<Record<string, unknown>[]> {
  const { rows } = await db.raw(
    `select i.chute_id, c.name, ${DATE} as date, count(*)::int as total_requests,
            coalesce(sum((metrics->>'it')::bigint), 0)::float8 as total_input_tokens, coalesce(sum((metrics->>'ot')::bigint), 0)::float8 as total_output_tokens,
            avg((metrics->>'tps')::float8) as average_tps, avg((metrics->>'ttft')::float8) as average_ttft
     from invocations i join chutes c on c.chute_id = i.chute_id and c.public and c.standard_template = 'vllm'
     where ${LAST_DAYS} and error_message is null group by 1, 2, 3 order by 3 desc, 1`,
  );
  return rows;
}
