import { expect, test } from '@jest/globals';
import { whyNodesRefused, type ClaimableNode, type NodeClaim } from './check-claim-nodes.ts';

const A = 'a'.repeat(32);
const B = 'b'.repeat(32);
const node = (over: Partial<ClaimableNode> = {}): ClaimableNode => ({
  uuid: A,
  minerHotkey: 'miner',
  gpu: 'h100',
  isVerified: true,
  trustLevel: 'simulated',
  verificationHost: 'Host.example',
  instanceId: null,
  ...over,
});
const selector = { gpuCount: 1, minVramGbPerGpu: 16, include: null, exclude: null, maxHourlyPricePerGpuMicroUsd: null };
const claim = (over: Partial<NodeClaim> = {}): NodeClaim => ({
  gpuUuids: [A],
  host: 'host.example',
  minerHotkey: 'miner',
  selector,
  minimumTrustLevel: 'none',
  ...over,
});

test.each<[string, NodeClaim, ClaimableNode[], string | null]>([
  ['one good GPU, host in another case', claim(), [node()], null],
  [
    'two good GPUs',
    claim({ gpuUuids: [B, A], selector: { ...selector, gpuCount: 2 } }),
    [node(), node({ uuid: B })],
    null,
  ],
  ['a GPU named twice, before its count', claim({ gpuUuids: [A, A] }), [node()], 'request.invalid'],
  ['too few GPUs', claim({ selector: { ...selector, gpuCount: 2 } }), [node()], 'request.invalid'],
  ['no GPUs', claim({ gpuUuids: [] }), [], 'request.invalid'],
  ['an unknown GPU', claim(), [], 'resource.not_found'],
  ['a GPU of another miner', claim(), [node({ minerHotkey: 'other' })], 'resource.not_found'],
  [
    'an unverified GPU, before its assignment',
    claim(),
    [node({ isVerified: false, instanceId: 'i' })],
    'request.invalid',
  ],
  ['an assigned GPU, before the selector', claim(), [node({ instanceId: 'i', gpu: 'nope' })], 'resource.conflict'],
  [
    'a GPU the selector leaves out',
    claim({ selector: { ...selector, exclude: ['h100'] } }),
    [node()],
    'request.invalid',
  ],
  [
    'two types in one instance',
    claim({ gpuUuids: [A, B], selector: { ...selector, gpuCount: 2 } }),
    [node(), node({ uuid: B, gpu: 'a100' })],
    'request.invalid',
  ],
  ['another host', claim({ host: 'elsewhere' }), [node()], 'request.invalid'],
  ['less trust than asked', claim({ minimumTrustLevel: 'povw' }), [node()], 'request.invalid'],
])('%s', (_, wanted, nodes, code) => expect(whyNodesRefused(wanted, nodes)?.code ?? null).toBe(code));

test('an unverified GPU is named before an assigned one', () => {
  const wanted = claim({ gpuUuids: [A, B], selector: { ...selector, gpuCount: 2 } });
  const problem = whyNodesRefused(wanted, [node({ instanceId: 'i' }), node({ uuid: B, isVerified: false })]);
  expect(problem).toEqual({ code: 'request.invalid', detail: `GPU ${B} is not verified` });
});
