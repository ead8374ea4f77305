import knex, { type Knex } from 'knex';
import pg from 'pg';

// int8 arrives as text by default; our bigint columns that fit are counts and micro-dollars. Seeds pass 2^53: stores
// that read them cast to text in SQL.
pg.types.setTypeParser(pg.types.builtins.INT8, (text) => {
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : text;
});
pg.types.setTypeParser(pg.types.builtins.NUMERIC, (text) => text);

export interface DatabaseOptions {
  url: string;
  poolMax: number;
  applicationName: string;
}

/** knex prints what it also throws, past the program's log: who made the query reports it, with what it was for. */
const SILENT = { debug: () => {}, warn: () => {}, error: () => {}, deprecate: () => {} };

/** One pool per program. Statements that run for a minute are a bug, not a load: the server ends them. */
export function connectDatabase({ url, poolMax, applicationName }: DatabaseOptions): Knex {
  return knex({
    client: 'pg',
    connection: {
      connectionString: url,
      application_name: applicationName,
      statement_timeout: 60_000,
      keepAlive: true,
    },
    pool: { min: 0, max: poolMax },
    acquireConnectionTimeout: 10_000,
    log: SILENT,
  });
}

/** SQLSTATE of a driver error, walking causes; null when the error is not Postgres' own. */
export function sqlState(err: unknown): string | null {
  for (let cause: unknown = err; cause instanceof Error; cause = cause.cause) {
    if ('code' in cause && typeof cause.code === 'string' && /^[0-9A-Z]{5}$/.test(cause.code)) return cause.code;
  }
  return null;
}
export const UNIQUE_VIOLATION = '23505';
export const FOREIGN_KEY_VIOLATION = '23503';

/** Name of the violated constraint, to tell one unique index from another. */
export const violatedConstraint = (err: unknown): string | null =>
  err instanceof Error && 'constraint' in err && typeof err.constraint === 'string' ? err.constraint : null;
