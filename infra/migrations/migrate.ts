import { join } from 'node:path';
import type { Knex } from 'knex';

export type Schema = 'validator' | 'miner';

const settings = (schema: Schema) => ({
  directory: join(import.meta.dirname, schema),
  loadExtensions: ['.ts'],
  tableName: 'canopy_migrations',
});

/** Brings a database to the newest schema; safe from several processes at once (a lock row). */
export async function migrate(knex: Knex, schema: Schema): Promise<void> {
  await knex.migrate.latest(settings(schema));
}

/** Takes everything back; tests only. */
export async function rollback(knex: Knex, schema: Schema): Promise<void> {
  await knex.migrate.rollback(settings(schema), true);
}
