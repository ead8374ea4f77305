import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { insertMiner } from '../../../api/validator/testing/test-api.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { insertNode } from '../../../workers/testing/launch-fixture.ts';
import { gpusInSweep } from './gpus-in-sweep.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  database = await createTestDatabase('validator');
});
afterAll(() => database.drop());

test('of the GPUs asked for those whose sweep has not ended', async () => {
  const miner = (await insertMiner(database.knex)).address;
  const node = (untilMs: number | null) =>
    insertNode(database.knex, miner, {
      sweep_id: untilMs === null ? null : randomUUID(),
      sweep_until: untilMs === null ? null : new Date(Date.now() + untilMs),
    });
  const held = [await node(60_000), await node(60_000)];
  const [free, ended, other] = [await node(null), await node(-1000), await node(60_000)];
  const gpuUuids = [...held, free, ended, 'f'.repeat(32)];
  expect(await gpusInSweep(database.knex, { gpuUuids })).toEqual([...held].sort((a, b) => (a < b ? -1 : 1)));
  expect(await gpusInSweep(database.knex, { gpuUuids: [free, ended] })).toEqual([]);
  expect(await gpusInSweep(database.knex, { gpuUuids: [other] })).toEqual([other]);
});
