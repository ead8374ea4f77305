/** What a chute needs of a server; `supportedGpus` are short refs, lower case. */
export interface ChuteNeeds {
  gpuCount: number;
  supportedGpus: readonly string[];
  isTee: boolean;
  isBanned: boolean;
  /** a rolling update comes back to the server it left */
  onlyServerId: string | null;
}

export interface GpuSnapshot {
  gpuId: string;
  modelShortRef: string;
  isVerified: boolean;
  deploymentId: string | null;
}

/** `status` is the server workflow's word; only `ready` servers take work. Cost is per GPU and hour, micro-dollars. */
export interface ServerSnapshot {
  serverId: string;
  status: string;
  isLocked: boolean;
  isTee: boolean;
  hourlyCostMicroUsd: number;
  gpus: readonly GpuSnapshot[];
}

export type ServerRejection = 'other_server' | 'not_ready' | 'locked' | 'tee' | 'gpu_model' | 'no_free_gpus';
export type Placement =
  | { kind: 'placed'; serverId: string; gpuIds: string[]; hourlyCostMicroUsd: number }
  | { kind: 'unplaceable'; reason: 'banned' | 'no_server'; rejections: Record<string, ServerRejection> };

/**
 * The cheapest server that fits; then the one with the fewest free GPUs; then the smallest id (spec/miner.md §5.5). A
 * server's first lack is its rejection. The GPUs are named too: all of one model, lowest ids first.
 */
export function chooseServer(needs: ChuteNeeds, servers: readonly ServerSnapshot[]): Placement {
  if (needs.isBanned) return { kind: 'unplaceable', reason: 'banned', rejections: {} };
  const rejections: Record<string, ServerRejection> = {};
  const fits: { server: ServerSnapshot; gpuIds: string[]; freeCount: number }[] = [];
  for (const server of servers) {
    const free = freeGpus(needs, server);
    const gpuIds = ofOneModel(free, needs.gpuCount);
    const rejection = whyNot(needs, server) ?? (gpuIds === null ? 'no_free_gpus' : null);
    if (rejection !== null) rejections[server.serverId] = rejection;
    else if (gpuIds !== null) fits.push({ server, gpuIds, freeCount: free.length });
  }
  const [best] = fits.sort(
    (a, b) =>
      a.server.hourlyCostMicroUsd - b.server.hourlyCostMicroUsd ||
      a.freeCount - b.freeCount ||
      (a.server.serverId < b.server.serverId ? -1 : 1),
  );
  if (!best) return { kind: 'unplaceable', reason: 'no_server', rejections };
  const { serverId, hourlyCostMicroUsd } = best.server;
  return { kind: 'placed', serverId, gpuIds: best.gpuIds, hourlyCostMicroUsd };
}

function whyNot(needs: ChuteNeeds, server: ServerSnapshot): ServerRejection | null {
  if (needs.onlyServerId !== null && server.serverId !== needs.onlyServerId) return 'other_server';
  if (server.status !== 'ready') return 'not_ready';
  if (server.isLocked) return 'locked';
  if (server.isTee !== needs.isTee) return 'tee';
  const fitting = server.gpus.filter((gpu) => gpu.isVerified && needs.supportedGpus.includes(gpu.modelShortRef));
  return fitting.length === 0 ? 'gpu_model' : null;
}

const freeGpus = (needs: ChuteNeeds, server: ServerSnapshot): GpuSnapshot[] =>
  server.gpus.filter(
    (gpu) => gpu.isVerified && gpu.deploymentId === null && needs.supportedGpus.includes(gpu.modelShortRef),
  );

/** The validator proves and prices an instance as one GPU type: models are never mixed. */
function ofOneModel(free: readonly GpuSnapshot[], count: number): string[] | null {
  const models = [...new Set(free.map((gpu) => gpu.modelShortRef))].sort();
  const counted = models.map((model) => free.filter((gpu) => gpu.modelShortRef === model));
  const [tightest] = counted.filter((gpus) => gpus.length >= count).sort((a, b) => a.length - b.length);
  return tightest === undefined
    ? null
    : tightest
        .map((gpu) => gpu.gpuId)
        .sort()
        .slice(0, count);
}
