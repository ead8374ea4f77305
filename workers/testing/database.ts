import { randomBytes } from 'node:crypto';
import type { Knex } from 'knex';
import pg from 'pg';
import { connectDatabase } from '../../activities/clients/postgres.ts';
import { migrate, type Schema } from '../../infra/migrations/migrate.ts';

const adminUrl = (): string => {
  const url = process.env.CANOPY_TEST_POSTGRES_URL;
  if (!url) throw new Error('tests run through jest, whose global setup starts Postgres');
  return url;
};

async function asAdmin(sql: string): Promise<void> {
  const client = new pg.Client(adminUrl());
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** A migrated database of the caller's own on the real Postgres. */
export async function createTestDatabase(
  schema: Schema,
): Promise<{ knex: Knex; url: string; drop: () => Promise<void> }> {
  const name = `t_${randomBytes(6).toString('hex')}`;
  await asAdmin(`create database ${name}`);
  const url = adminUrl().replace(/\/postgres$/, `/${name}`);
  const knex = connectDatabase({ url, poolMax: 10, applicationName: 'test' });
  await migrate(knex, schema);
  return {
    knex,
    url,
    drop: async () => {
      await knex.destroy();
      await asAdmin(`drop database ${name} with (force)`);
    },
  };
}
