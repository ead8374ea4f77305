import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { loadHotkey } from '../../activities/clients/hotkey.ts';
import { ApiClient } from './api-client.ts';
import { writePrivate } from './network-state.ts';

interface ServerRow {
  server_id: string;
  locked: boolean;
  deployments: unknown[];
}

export interface DrainContext {
  dataDir: string;
  minerApi: string;
  minerSeed: string;
}

const clientOf = async ({ minerApi, minerSeed }: DrainContext): Promise<ApiClient> =>
  new ApiClient(minerApi, await loadHotkey(minerSeed), 'management');
const fileOf = ({ dataDir }: DrainContext): string => join(dataDir, 'drained.json');

/** What an operator does before a shut-down: lock the servers, purge their deployments, wait until all are gone. */
export async function drainMiner(context: DrainContext, withinMs: number): Promise<void> {
  const miner = await clientOf(context);
  const servers = await miner.get<ServerRow[]>('/servers/', 'management');
  const ours = servers.filter((server) => !server.locked).map((server) => server.server_id);
  await writePrivate(fileOf(context), JSON.stringify(ours));
  for (const id of ours) {
    await miner.get(`/servers/${id}/lock`, 'management');
    await miner.delete(`/servers/${id}/deployments`, 'management');
  }
  const deadline = Date.now() + withinMs;
  while ((await miner.get<ServerRow[]>('/servers/', 'management')).some((server) => server.deployments.length > 0)) {
    if (Date.now() > deadline) throw new Error(`deployments were still there after ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Unlocks what the last shut-down locked; an operator's own locks stay. */
export async function undrainMiner(context: DrainContext): Promise<void> {
  const ids = await readFile(fileOf(context), 'utf8').then(
    (text) => JSON.parse(text) as string[],
    () => [],
  );
  if (ids.length === 0) return;
  const miner = await clientOf(context);
  for (const id of ids) await miner.get(`/servers/${id}/unlock`, 'management');
  await rm(fileOf(context), { force: true });
}
