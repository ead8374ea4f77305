import { expect, test } from '@jest/globals';
import { backoffMs, rankScaleUp, type ScaleCandidate } from './rank-scale-up.ts';
import type { ServerSnapshot } from './choose-server.ts';

const server = (gpuCount: number, over: Partial<ServerSnapshot> = {}): ServerSnapshot => ({
  serverId: 's1',
  status: 'ready',
  isLocked: false,
  isTee: false,
  hourlyCostMicroUsd: 1_000_000,
  gpus: Array.from({ length: gpuCount }, (_, index) => ({
    gpuId: `g${index}`,
    modelShortRef: 'h100',
    isVerified: true,
    deploymentId: null,
  })),
  ...over,
});
const chute = (chuteId: string, over: Partial<ScaleCandidate> = {}, gpuCount = 1): ScaleCandidate => ({
  chuteId,
  version: 'v1',
  computeMultiplier: 1,
  hasCords: true,
  utilization: { scalable: true, updateInProgress: false },
  pendingCount: 0,
  retryAtMs: 0,
  needs: { gpuCount, supportedGpus: ['h100'], isTee: false, isBanned: false, onlyServerId: null },
  ...over,
});
const options = { nowMs: 1000, limit: 8 };
const started = (candidates: ScaleCandidate[], servers: ServerSnapshot[]) =>
  rankScaleUp(candidates, servers, options).starts.map((start) => start.chuteId);

test('the best value first, and no GPU is promised twice', () => {
  const candidates = [
    chute('poor'),
    chute('rich', { computeMultiplier: 5 }, 2),
    chute('fair', { computeMultiplier: 2 }),
  ];
  expect(started(candidates, [server(3)])).toEqual(['rich', 'fair']);
  expect(rankScaleUp(candidates, [server(3)], options).rejections).toEqual({ poor: 'no_server' });
});

test('a tie goes to the smaller id, whatever the order', () => {
  expect(started([chute('b'), chute('a')], [server(1)])).toEqual(['a']);
  expect(started([chute('a'), chute('b')], [server(1)])).toEqual(['a']);
});

test('several in one cycle, up to the limit', () => {
  const candidates = [chute('a'), chute('b'), chute('c')];
  expect(rankScaleUp(candidates, [server(3)], { ...options, limit: 2 }).starts).toHaveLength(2);
});

test('a server that costs nothing divides nothing by zero', () => {
  const { starts } = rankScaleUp([chute('a')], [server(1, { hourlyCostMicroUsd: 0 })], options);
  expect(Number.isFinite(starts[0]?.value)).toBe(true);
});

test.each<[string, Partial<ScaleCandidate>]>([
  ['no_cords', { hasCords: false }],
  ['not_scalable', { utilization: { scalable: false, updateInProgress: false } }],
  ['updating', { utilization: { scalable: true, updateInProgress: true } }],
  ['pending', { pendingCount: 1 }],
  ['worthless', { computeMultiplier: 0 }],
  ['backing_off', { retryAtMs: 1001 }],
])('%s', (reason, over) => {
  expect(rankScaleUp([chute('a', over)], [server(1)], options)).toEqual({ starts: [], rejections: { a: reason } });
});

test('a chute the utilization list does not name is tried, and so is one whose back-off is over', () => {
  expect(started([chute('a', { utilization: null, retryAtMs: 1000 })], [server(1)])).toEqual(['a']);
});

test('back-off doubles from 5 s and stops at 5 min', () => {
  expect([1, 2, 3, 7, 50].map(backoffMs)).toEqual([5000, 10_000, 20_000, 300_000, 300_000]);
});
