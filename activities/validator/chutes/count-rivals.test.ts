import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { countRivals } from './count-rivals.ts';

const NETUID = 64;
const chuteId = randomUUID();
let database: Awaited<ReturnType<typeof createTestDatabase>>;

beforeAll(async () => {
  database = await createTestDatabase('validator');
  const db = database.knex;
  const [userId, imageId] = [randomUUID(), randomUUID()];
  await db('users').insert({
    user_id: userId,
    username: 'ada',
    hotkey: 'hk',
    coldkey: 'ck',
    payment_address: 'pa',
    payment_secret_sealed: Buffer.from('x'),
    fingerprint_hash: 'f',
  });
  await db('images').insert({
    image_id: imageId,
    user_id: userId,
    name: 'img',
    tag: 'v1',
    public: true,
    status: 'built and pushed',
    chutes_version: '0.6.9',
    context_key: 'c',
    context_sha256: 'c',
    dockerfile_key: 'd',
    dockerfile_sha256: 'd',
  });
  await db('chutes').insert({
    chute_id: chuteId,
    user_id: userId,
    image_id: imageId,
    name: 'demo',
    slug: 'ada-demo',
    version: randomUUID(),
    public: true,
    code: 'x = 1',
    filename: 'chute.py',
    ref_str: 'chute:chute',
    node_selector: JSON.stringify({ gpu_count: 2, min_vram_gb_per_gpu: 80, include: null, exclude: null }),
    chutes_version: '0.6.9',
  });
  await miner('me', { gpus: 4 });
}, 60_000);
afterAll(() => database.drop());

interface Miner {
  gpus: number;
  type?: string;
  verified?: boolean;
  blacklist?: string;
}

async function miner(hotkey: string, { gpus, type = 'h100_sxm', verified = true, blacklist }: Miner): Promise<void> {
  const db = database.knex;
  await db('metagraph_nodes').insert({
    netuid: NETUID,
    hotkey,
    coldkey: 'ck',
    uid: 1,
    stake_rao: '1',
    blacklist_reason: blacklist ?? null,
    synced_at: new Date(),
  });
  for (let index = 0; index < gpus; index++) {
    await db('nodes').insert({
      uuid: randomUUID().replaceAll('-', ''),
      miner_hotkey: hotkey,
      task_id: 't',
      name: 'x',
      memory: 1,
      clock_rate: 1,
      device_index: index,
      gpu_identifier: type,
      verification_host: '127.0.0.1',
      verification_port: 80,
      seed: 1,
      verified_at: verified ? new Date() : null,
    });
  }
}

const rivals = (): Promise<number> => countRivals(database.knex, { chuteId, hotkey: 'me', netuid: NETUID });

test('a rival is another registered miner with enough proven, suitable GPUs free', async () => {
  expect(await rivals()).toBe(0);
  await miner('one-gpu', { gpus: 1 });
  await miner('unproven', { gpus: 2, verified: false });
  await miner('too-small', { gpus: 2, type: 'l4' });
  await miner('blacklisted', { gpus: 2, blacklist: 'cheated' });
  expect(await rivals()).toBe(0);
  await miner('rival', { gpus: 2 });
  expect(await rivals()).toBe(1);
});
