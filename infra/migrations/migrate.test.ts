import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createTestDatabase } from '../../workers/testing/database.ts';
import { migrate, rollback, type Schema } from './migrate.ts';

const schemas: Schema[] = ['validator', 'miner'];
const databases = new Map<Schema, Awaited<ReturnType<typeof createTestDatabase>>>();

beforeAll(async () => {
  for (const schema of schemas) databases.set(schema, await createTestDatabase(schema));
});
afterAll(() => Promise.all([...databases.values()].map((database) => database.drop())));

test.each(schemas)('%s: down leaves nothing behind, and up works again', async (schema) => {
  const { knex } = databases.get(schema) as { knex: Awaited<ReturnType<typeof createTestDatabase>>['knex'] };
  const tables = async (): Promise<string[]> => {
    const { rows } = await knex.raw(
      "select tablename from pg_tables where schemaname = 'public' and tablename not like 'canopy_migrations%' order by 1",
    );
    return rows.map((row: { tablename: string }) => row.tablename);
  };
  const before = await tables();
  expect(before.length).toBeGreaterThan(4);
  await rollback(knex, schema);
  expect(await tables()).toEqual([]);
  await migrate(knex, schema);
  expect(await tables()).toEqual(before);
});
