import { Keyring } from '@polkadot/keyring';
import { cryptoWaitReady } from '@polkadot/util-crypto';
import type { Knex } from 'knex';
import { Hotkey } from '../clients/hotkey.ts';
import { SecretBox } from '../clients/secret-box.ts';
import { DeploymentStore } from './deployments/deployment-store.ts';
import { ServerStore } from './inventory/server-store.ts';
import { RemoteViewStore } from './policy/remote-view-store.ts';

/** For tests: a miner's stores on a database, and things to put into them. */
export const VALIDATOR = '5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty';
export const CHUTE_ID = '11111111-1111-4111-8111-111111111111';
export const VERSION = '22222222-2222-4222-8222-222222222222';
export const IMAGE_ID = '33333333-3333-4333-8333-333333333333';
export const SERVER_ID = '44444444-4444-4444-8444-444444444444';
export const id = (n: number): string => `55555555-5555-4555-8555-${String(n).padStart(12, '0')}`;

export function minerStores(db: Knex, ports = { first: 31_000, last: 31_099 }) {
  const servers = new ServerStore(db);
  const remote = new RemoteViewStore(db, VALIDATOR);
  const deployments = new DeploymentStore({
    db,
    box: new SecretBox('ab'.repeat(32)),
    servers,
    validator: VALIDATOR,
    ports,
  });
  return { servers, remote, deployments };
}

export const chuteItem = (over: Record<string, unknown> = {}): Record<string, unknown> => ({
  chute_id: CHUTE_ID,
  version: VERSION,
  name: 'hello',
  image_id: IMAGE_ID,
  image: 'u/hello:1',
  code: 'x',
  filename: 'hello.py',
  ref_str: 'hello:chute',
  supported_gpus: ['h100_sxm'],
  node_selector: { gpu_count: 2, compute_multiplier: 2 },
  cords: [{}],
  ...over,
});

export const gpuId = (n: number): string => n.toString(16).padStart(32, '0');
export const device = (n: number) => ({
  uuid: gpuId(n),
  name: 'NVIDIA H100 80GB HBM3',
  memory: 85_000_000_000,
  clock_rate: 1_590_000,
});

/** A ready server with `count` free, verified GPUs and one chute that wants two. */
export async function seedInventory(db: Knex, count = 2): Promise<ReturnType<typeof minerStores>> {
  const stores = minerStores(db);
  await stores.servers.track({
    serverId: SERVER_ID,
    validator: VALIDATOR,
    name: 'gpu-0',
    agentUrl: 'http://127.0.0.1:32000',
    gpuShortRef: 'h100_sxm',
    hourlyCostMicroUsd: 1_000_000,
    cpuPerGpu: 4,
    memoryPerGpuGb: 8,
    labels: {},
    gpus: Array.from({ length: count }, (_, n) => ({
      gpuId: gpuId(n),
      deviceIndex: n,
      device: device(n),
      modelShortRef: 'h100_sxm',
    })),
  });
  await stores.servers.markVerified(SERVER_ID);
  await stores.remote.putChute(chuteItem());
  return stores;
}

export async function testHotkey(uri = '//Alice'): Promise<Hotkey> {
  await cryptoWaitReady();
  return new Hotkey(new Keyring({ type: 'sr25519', ss58Format: 42 }).addFromUri(uri));
}
