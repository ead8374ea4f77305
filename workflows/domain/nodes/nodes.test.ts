import { expect, test } from '@jest/globals';
import { gpuType } from '../gpus/gpu-table.ts';
import { challengedIndex, deviceInfoAnswer } from './device-info.ts';
import { asType, isHopping, whyBatchRefused, whyDeviceRefused, type AnnouncedNode } from './node-rules.ts';
import { isPublicAddress } from './public-address.ts';

const node = (over: Partial<AnnouncedNode> = {}): AnnouncedNode => ({
  uuid: 'a'.repeat(32),
  name: 'NVIDIA H100 80GB HBM3',
  memory: 85_520_809_984,
  major: 9,
  minor: 0,
  processors: 132,
  sxm: true,
  clockRate: 1_980_000,
  maxThreadsPerProcessor: 2048,
  concurrentKernels: true,
  ecc: true,
  deviceIndex: 0,
  gpuIdentifier: 'h100_sxm',
  verificationHost: '1.2.3.4',
  verificationPort: 8000,
  ...over,
});

test.each([
  ['the type as its driver tells it', {}, null],
  ['the identifier in capitals', { gpuIdentifier: 'H100_SXM' }, null],
  ['processors not told', { processors: null }, null],
  ['the base clock', { clockRate: 1_590_000 }, null],
  ['below the base clock', { clockRate: 1_589_000 }, /clock/],
  ['10 % above boost', { clockRate: 2_178_000 }, null],
  ['more above boost', { clockRate: 2_179_000 }, /clock/],
  ['one GB less than the table', { memory: 79_000_000_000 }, null],
  ['two GB less', { memory: 78_999_999_999 }, /memory/],
  ['as GiB and one more', { memory: 86_999_999_999 }, null],
  ['more than that', { memory: 87_000_000_000 }, /memory/],
  ['other processors', { processors: 114 }, /processors/],
  ['a name of another type', { name: 'NVIDIA H100 PCIe' }, /name/],
  ['an unknown identifier', { gpuIdentifier: 'h9000' }, /not a supported GPU/],
])('device: %s', (_, over, why) => {
  const refusal = whyDeviceRefused(node(over));
  if (why) expect(refusal).toMatchObject({ code: 'request.invalid', detail: expect.stringMatching(why) as unknown });
  else expect(refusal).toBeNull();
});

test("the table's flags override what was announced, where it has them", () => {
  const type = gpuType('h100_sxm');
  const plain = gpuType('h20');
  if (!type || !plain) throw new Error('types of the table');
  expect(asType(node({ major: 1, minor: 1, sxm: false, ecc: false, concurrentKernels: false }), type)).toEqual(node());
  expect(asType(node({ major: 1, gpuIdentifier: 'H20' }), plain)).toEqual(node({ major: 1, gpuIdentifier: 'h20' }));
});

test.each([
  ['none', [], /no nodes/],
  ['ten', Array.from({ length: 10 }, (_, at) => ({ uuid: String(at) })), null],
  ['eleven', Array.from({ length: 11 }, (_, at) => ({ uuid: String(at) })), /at most 10/],
  ['one twice', [{ uuid: 'a' }, { uuid: 'a' }], /twice/],
])('batch of %s', (_, nodes, why) => {
  const refusal = whyBatchRefused(nodes);
  if (why) expect(refusal?.detail).toMatch(why);
  else expect(refusal).toBeNull();
});

const NOW = 10 * 86_400_000;
const past = (minerHotkey: string, hoursAgo: number, uuid = 'g') => ({
  uuid,
  minerHotkey,
  registeredAtMs: NOW - hoursAgo * 3_600_000,
});
test.each([
  ['no history', [], false],
  ['two entries of two hotkeys', [past('a', 1), past('b', 2)], false],
  ['three entries of two others', [past('a', 1), past('b', 2), past('b', 3)], true],
  ['three entries of one', [past('a', 1), past('a', 2), past('a', 3)], false],
  ['three, one of them the own newest', [past('me', 1), past('a', 2), past('b', 3)], false],
  ['four, the own newest not counted', [past('me', 1), past('a', 2), past('b', 3), past('a', 4)], true],
  ['an older own one counts', [past('me', 1), past('me', 2), past('a', 3), past('a', 4)], true],
  ['three, one of them a day old', [past('a', 1), past('b', 2), past('b', 24)], false],
  ['three of another GPU', [past('a', 1, 'x'), past('b', 2, 'x'), past('b', 3, 'x')], false],
])('hopping: %s', (_, history, hops) => expect(isHopping('g', 'me', history, NOW)).toBe(hops));

test.each([
  ['8.8.8.8', true],
  ['1.1.1.1', true],
  ['172.15.0.1', true],
  ['172.32.0.1', true],
  ['100.128.0.1', true],
  ['2606:4700::1111', true],
  ['2a01:4f8::1', true],
  ['127.0.0.1', false],
  ['10.1.2.3', false],
  ['172.16.0.1', false],
  ['172.31.255.255', false],
  ['192.168.1.1', false],
  ['169.254.169.254', false],
  ['100.64.0.1', false],
  ['0.0.0.0', false],
  ['224.0.0.1', false],
  ['255.255.255.255', false],
  ['198.18.0.1', false],
  ['203.0.113.9', false],
  ['::1', false],
  ['::', false],
  ['fe80::1', false],
  ['fd00::1', false],
  ['ff02::1', false],
  ['::ffff:127.0.0.1', false],
  ['::ffff:8.8.8.8', false],
  ['2001:db8::1', false],
  ['2002:7f00:1::', false],
  ['64:ff9b::7f00:1', false],
  ['1.2.3', false],
  ['01.2.3.4', false],
  ['256.1.1.1', false],
  ['2606::1::2', false],
  ['g::1', false],
  ['', false],
  ['2001:0:1::1', false],
])('%s is public: %s', (address, expected) => expect(isPublicAddress(address)).toBe(expected));

test('the device-info answer is a function of challenge and device, by a published formula', () => {
  const challenge = `03${'ab'.repeat(31)}`;
  expect(challengedIndex(challenge, 2)).toBe(1);
  const device = {
    uuid: 'c0ffee00'.repeat(4),
    name: 'NVIDIA H100 80GB HBM3',
    memory: 85_520_809_984,
    clock_rate: 1_980_000,
  };
  expect(deviceInfoAnswer(challenge, device)).toBe('40bbe6ce416970bcf6f6bf0969415a205ecd04e1f7072690bd2ea6cbded26a0f');
  expect(deviceInfoAnswer(challenge, { ...device, memory: 1 })).not.toBe(deviceInfoAnswer(challenge, device));
});
