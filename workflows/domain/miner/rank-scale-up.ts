import { chooseServer, type ChuteNeeds, type ServerSnapshot } from './choose-server.ts';

/** One chute as the policy sees it: what the validator offers, and what this miner already does with it. */
export interface ScaleCandidate {
  chuteId: string;
  version: string;
  needs: ChuteNeeds;
  /** the validator's price as a multiple of its basis; what an hour of it earns is proportional to this */
  computeMultiplier: number;
  hasCords: boolean;
  /** of `/chutes/utilization`; null = the list does not name the chute */
  utilization: { scalable: boolean; updateInProgress: boolean } | null;
  /** own deployments of this version that are not active yet */
  pendingCount: number;
  /** after a refusal (423 and the like) the chute is not asked for again before this moment */
  retryAtMs: number;
}

export type NotScaled =
  | 'no_cords'
  | 'not_scalable'
  | 'updating'
  | 'pending'
  | 'worthless'
  | 'backing_off'
  | 'no_server';
export interface ScaleUp {
  chuteId: string;
  version: string;
  serverId: string;
  /** compute multiplier per dollar and hour of the GPUs it takes */
  value: number;
}
export interface ScalePlan {
  starts: ScaleUp[];
  rejections: Record<string, NotScaled>;
}

/**
 * What to start now, best value first, ties by chute id (spec/miner.md §5.6). The GPUs of one start are gone for the
 * next, so a plan never promises a GPU twice; at most one new deployment a chute and at most `limit` in all.
 */
export function rankScaleUp(
  candidates: readonly ScaleCandidate[],
  servers: readonly ServerSnapshot[],
  { nowMs, limit }: { nowMs: number; limit: number },
): ScalePlan {
  const rejections: Record<string, NotScaled> = {};
  const valued: { candidate: ScaleCandidate; value: number }[] = [];
  for (const candidate of candidates) {
    const rejection = whyNot(candidate, nowMs);
    const placement = chooseServer(candidate.needs, servers);
    if (rejection !== null) rejections[candidate.chuteId] = rejection;
    else if (placement.kind === 'unplaceable') rejections[candidate.chuteId] = 'no_server';
    else valued.push({ candidate, value: valueOf(candidate, placement.hourlyCostMicroUsd) });
  }
  valued.sort((a, b) => b.value - a.value || (a.candidate.chuteId < b.candidate.chuteId ? -1 : 1));
  const starts: ScaleUp[] = [];
  let left = servers;
  for (const { candidate } of valued) {
    if (starts.length >= limit) break;
    const placement = chooseServer(candidate.needs, left);
    if (placement.kind === 'unplaceable') {
      rejections[candidate.chuteId] = 'no_server';
      continue;
    }
    left = left.map((server) => (server.serverId === placement.serverId ? taken(server, placement.gpuIds) : server));
    const value = valueOf(candidate, placement.hourlyCostMicroUsd);
    starts.push({ chuteId: candidate.chuteId, version: candidate.version, serverId: placement.serverId, value });
  }
  return { starts, rejections };
}

function whyNot(candidate: ScaleCandidate, nowMs: number): NotScaled | null {
  if (!candidate.hasCords) return 'no_cords';
  if (candidate.utilization?.scalable === false) return 'not_scalable';
  if (candidate.utilization?.updateInProgress) return 'updating';
  if (candidate.pendingCount > 0) return 'pending';
  if (candidate.computeMultiplier <= 0) return 'worthless';
  return candidate.retryAtMs > nowMs ? 'backing_off' : null;
}

/** A free server does not make everything infinitely good: it counts as a tenth of a cent. */
function valueOf({ computeMultiplier, needs }: ScaleCandidate, hourlyCostMicroUsd: number): number {
  return (computeMultiplier * 1_000_000) / (Math.max(hourlyCostMicroUsd, 1000) * Math.max(needs.gpuCount, 1));
}

const taken = (server: ServerSnapshot, gpuIds: readonly string[]): ServerSnapshot => ({
  ...server,
  gpus: server.gpus.map((gpu) => (gpuIds.includes(gpu.gpuId) ? { ...gpu, deploymentId: 'planned' } : gpu)),
});

/** How long a refused chute is left alone: doubles from 5 s to 5 min. */
export const backoffMs = (refusals: number): number => Math.min(5000 * 2 ** Math.max(refusals - 1, 0), 300_000);
