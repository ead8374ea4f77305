import { expect, test } from '@jest/globals';
import { chooseServer, type ChuteNeeds, type GpuSnapshot, type ServerSnapshot } from './choose-server.ts';

const needs: ChuteNeeds = {
  gpuCount: 2,
  supportedGpus: ['l40s', 'h100'],
  isTee: false,
  isBanned: false,
  onlyServerId: null,
};
const gpu = (gpuId: string, over: Partial<GpuSnapshot> = {}): GpuSnapshot => ({
  gpuId,
  modelShortRef: 'l40s',
  isVerified: true,
  deploymentId: null,
  ...over,
});
const gpus = (...ids: string[]): GpuSnapshot[] => ids.map((id) => gpu(id));
const server = (over: Partial<ServerSnapshot> = {}): ServerSnapshot => ({
  serverId: 's1',
  status: 'ready',
  isLocked: false,
  isTee: false,
  hourlyCostMicroUsd: 1_000_000,
  gpus: gpus('a', 'b'),
  ...over,
});

test.each<[string, ServerSnapshot[], string, string[]]>([
  ['exactly enough', [server()], 's1', ['a', 'b']],
  [
    'cheaper beats tighter',
    [server(), server({ serverId: 's2', hourlyCostMicroUsd: 999_999, gpus: gpus('c', 'd', 'e') })],
    's2',
    ['c', 'd'],
  ],
  [
    'tighter beats a smaller id',
    [server({ gpus: gpus('a', 'b', 'c') }), server({ serverId: 's2', gpus: gpus('d', 'e') })],
    's2',
    ['d', 'e'],
  ],
  ['a full tie goes to the smallest id', [server({ serverId: 's9' }), server()], 's1', ['a', 'b']],
  [
    'models are not mixed',
    [server({ gpus: [gpu('a', { modelShortRef: 'h100' }), gpu('b'), gpu('c')] })],
    's1',
    ['b', 'c'],
  ],
])('%s', (_, servers, serverId, gpuIds) => {
  expect(chooseServer(needs, servers)).toMatchObject({ kind: 'placed', serverId, gpuIds });
  expect(chooseServer(needs, servers.toReversed())).toMatchObject({ kind: 'placed', serverId, gpuIds });
});

test.each<[string, Partial<ChuteNeeds>, Partial<ServerSnapshot>, string]>([
  ['locked', {}, { isLocked: true }, 'locked'],
  ['its agent is silent', {}, { status: 'unknown' }, 'not_ready'],
  ['TEE chute, plain server', { isTee: true }, {}, 'tee'],
  ['plain chute, TEE server', {}, { isTee: true }, 'tee'],
  ['another model', { supportedGpus: ['b200'] }, {}, 'gpu_model'],
  ['not verified yet', {}, { gpus: [gpu('a', { isVerified: false }), gpu('b', { isVerified: false })] }, 'gpu_model'],
  ['one of two is taken', {}, { gpus: [gpu('a'), gpu('b', { deploymentId: 'd1' })] }, 'no_free_gpus'],
  ['enough only across models', {}, { gpus: [gpu('a'), gpu('b', { modelShortRef: 'h100' })] }, 'no_free_gpus'],
  ['asked for another server', { onlyServerId: 's2' }, {}, 'other_server'],
])('not placed: %s', (_, wish, over, rejection) => {
  expect(chooseServer({ ...needs, ...wish }, [server(over)])).toEqual({
    kind: 'unplaceable',
    reason: 'no_server',
    rejections: { s1: rejection },
  });
});

test('a banned chute goes nowhere', () => {
  expect(chooseServer({ ...needs, isBanned: true }, [server()])).toEqual({
    kind: 'unplaceable',
    reason: 'banned',
    rejections: {},
  });
});
