import type { Knex } from 'knex';
import {
  csvLine,
  HOUR_MS,
  INVOCATION_COLUMNS,
  JOB_COLUMNS,
  pythonLiteral,
  REPORT_COLUMNS,
  type ExportKind,
} from '../../../workflows/domain/metering/export-csv.ts';

export interface StoredExport {
  path: string;
  objectKey: string;
  sha256: string;
  sizeBytes: number;
  rowCount: number;
}

const PAGE = 2000;
const TIME = `'YYYY-MM-DD HH24:MI:SS.US'`;

/** Columns as the file has them; times without zone, six digits. */
const SELECTED = INVOCATION_COLUMNS.map((name) =>
  name.endsWith('_at') ? `to_char(${name} at time zone 'utc', ${TIME}) as ${name}` : name,
).join(', ');

/**
 * The lines of one hour's file, header first, in an order that never varies. An attempt is in exactly one file: that of
 * the hour it ended in, as rows exist only once they ended (spec/audit-and-chain.md A.7.2 says what counting twice does).
 * `db` must be a transaction: the cursor lives in it.
 */
export async function* csvOfHour(
  db: Knex.Transaction,
  kind: ExportKind,
  endMs: number,
): AsyncGenerator<{ text: string; rows: number }> {
  if (kind !== 'invocations')
    return yield { text: csvLine(kind === 'reports' ? REPORT_COLUMNS : JOB_COLUMNS), rows: 0 };
  yield { text: csvLine(INVOCATION_COLUMNS), rows: 0 };
  const [start, end] = [new Date(endMs - HOUR_MS).toISOString(), new Date(endMs).toISOString()];
  await db.raw(
    `declare hour_rows no scroll cursor for select ${SELECTED} from invocations
     where completed_at >= ? and completed_at < ? and started_at >= ?::timestamptz - interval '1 day' and started_at < ?
     order by invocations.started_at, invocation_id`,
    [start, end, start, end],
  );
  for (;;) {
    const { rows } = await db.raw<{ rows: Record<string, unknown>[] }>(`fetch ${PAGE} from hour_rows`);
    if (rows.length === 0) break;
    yield { text: rows.map(invocationLine).join(''), rows: rows.length };
  }
  await db.raw('close hour_rows');
}

function invocationLine(row: Record<string, unknown>): string {
  return csvLine(
    INVOCATION_COLUMNS.map((name) => {
      const value = row[name];
      if (name === 'metrics') return pythonLiteral(value);
      return typeof value === 'number' || typeof value === 'string' ? value : null;
    }),
  );
}

export async function findExport(db: Knex, path: string): Promise<StoredExport | null> {
  const row = await db('exports').where({ path }).first();
  return row
    ? {
        path: row.path,
        objectKey: row.object_key,
        sha256: row.sha256,
        sizeBytes: row.size_bytes,
        rowCount: row.row_count,
      }
    : null;
}

/** Stores the file's row if its hour has none; whoever came first stays. Counts the hour's calls on their chutes once. */
export async function recordExport(db: Knex, stored: StoredExport, endMs: number): Promise<StoredExport> {
  return db.transaction(async (trx) => {
    const inserted = await trx('exports')
      .insert({
        path: stored.path,
        object_key: stored.objectKey,
        sha256: stored.sha256,
        size_bytes: stored.sizeBytes,
        row_count: stored.rowCount,
      })
      .onConflict('path')
      .ignore()
      .returning('path');
    if (inserted.length === 0) {
      const first = await findExport(trx, stored.path);
      if (!first) throw new Error(`export ${stored.path} vanished`);
      return first;
    }
    if (stored.rowCount > 0) await countCalls(trx, endMs);
    return stored;
  });
}

async function countCalls(trx: Knex.Transaction, endMs: number): Promise<void> {
  const [start, end] = [new Date(endMs - HOUR_MS).toISOString(), new Date(endMs).toISOString()];
  await trx.raw(
    `update chutes set invocation_count = invocation_count + served.count
     from (select chute_id, count(*) from invocations
           where completed_at >= ? and completed_at < ? and started_at >= ?::timestamptz - interval '1 day' and started_at < ? and error_message is null
           group by chute_id) served
     where chutes.chute_id = served.chute_id`,
    [start, end, start, end],
  );
}

/** Ends (epoch ms) of closed hours without an invocations file, oldest first: since the first call or file, at most 30 days back. */
export async function unexportedHours(db: Knex, closedBeforeMs: number, limit: number): Promise<number[]> {
  const lastEnd = new Date(Math.floor(closedBeforeMs / HOUR_MS) * HOUR_MS).toISOString();
  const { rows } = await db.raw<{ rows: { end_ms: number }[] }>(
    `with bounds as (
       select greatest(
         date_trunc('hour', least((select min(started_at) from invocations), (select min(created_at) from exports), ?::timestamptz - interval '1 hour')) + interval '1 hour',
         ?::timestamptz - interval '30 days') as first_end
     )
     select (extract(epoch from hour_end) * 1000)::bigint as end_ms
     from bounds, generate_series(first_end, ?::timestamptz, interval '1 hour') hour_end
     where not exists (
       select from exports where path = 'invocations/' || to_char(hour_end at time zone 'utc', 'YYYY/MM/DD/HH24') || '-jobs.csv'
     ) order by 1 limit ?`,
    [lastEnd, lastEnd, lastEnd, limit],
  );
  return rows.map((row) => row.end_ms);
}
