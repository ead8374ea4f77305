/** A verified GPU and what runs on it, for the public lists of spec/validator-api.md §2.5. */
export interface InventoryNode {
  minerHotkey: string;
  gpu: string;
  running: {
    instanceId: string;
    chuteId: string;
    name: string;
    username: string;
    isPublic: boolean;
    isVerified: boolean;
  } | null;
}

export type CompactInventory = Record<string, { provisioned: number; idle: number }>;
export interface ProvisionedNode {
  gpu: string;
  chute: { username: string; name: string; chuteId: string; isVerified: boolean; instanceId: string };
}
export interface MinerInventory {
  minerHotkey: string;
  provisioned: ProvisionedNode[];
  idle: Record<string, number>;
}

export function compactInventory(nodes: readonly InventoryNode[]): CompactInventory {
  const counts: CompactInventory = {};
  for (const { gpu, running } of nodes) {
    const count = (counts[gpu] ??= { provisioned: 0, idle: 0 });
    if (running) count.provisioned++;
    else count.idle++;
  }
  return counts;
}

const PRIVATE = '[private]';

/** Most GPUs first; then by hotkey. A private chute shows that it runs, not what or whose it is. */
export function detailedInventory(nodes: readonly InventoryNode[]): MinerInventory[] {
  const miners = new Map<string, MinerInventory & { count: number }>();
  for (const { minerHotkey, gpu, running } of nodes) {
    const miner = miners.get(minerHotkey) ?? { minerHotkey, provisioned: [], idle: {}, count: 0 };
    miners.set(minerHotkey, miner);
    miner.count++;
    if (!running) miner.idle[gpu] = (miner.idle[gpu] ?? 0) + 1;
    else {
      const { instanceId, chuteId, name, username, isPublic, isVerified } = running;
      const chute = isPublic
        ? { username, name, chuteId, isVerified, instanceId }
        : { username: PRIVATE, name: PRIVATE, chuteId: PRIVATE, isVerified, instanceId };
      miner.provisioned.push({ gpu, chute });
    }
  }
  return [...miners.values()]
    .sort((a, b) => b.count - a.count || (a.minerHotkey < b.minerHotkey ? -1 : 1))
    .map(({ count: _count, ...miner }) => miner);
}
