import { expect, test } from '@jest/globals';
import { priceCall, tokenPrice, type PricedCall } from './price.ts';

const call: PricedCall = {
  template: 'vllm',
  isFree: false,
  isPublic: true,
  callerIsOwner: false,
  discount: 0,
  hourlyMicroUsd: 4_500_000,
  basisMicroUsdPerHour: 4_500_000,
  computeMultiplier: 1,
  durationMs: 1500,
  tokens: { input: 1_000_000, output: 1_000_000 },
  steps: null,
};

test.each([
  [4_500_000, 0, { inputMicroUsd: 60_000, outputMicroUsd: 240_000 }],
  [400_000, 0, { inputMicroUsd: 10_000, outputMicroUsd: 20_000 }],
  [4_500_000, 0.5, { inputMicroUsd: 30_000, outputMicroUsd: 120_000 }],
  [4_500_000, -1, { inputMicroUsd: 120_000, outputMicroUsd: 490_000 }],
])('token price of %i an hour at discount %d', (hourly, discount, price) => {
  expect(tokenPrice(hourly, discount)).toEqual(price);
});

test.each<[string, Partial<PricedCall>, number]>([
  ['tokens', {}, 300_000],
  ['a small call is not free', { tokens: { input: 1, output: 0 } }, 1],
  ['free', { isFree: true }, 0],
  ['own private chute', { isPublic: false, callerIsOwner: true }, 0],
  ['private chute of another', { isPublic: false }, 300_000],
  ['steps', { template: 'diffusion', tokens: null, steps: 30 }, 675_000],
  ['seconds, begun ones whole', { template: null, tokens: null }, 2500],
  ['seconds at a discount', { template: null, tokens: null, discount: 0.5 }, 1250],
  ['tokens on another template are billed by time', { template: 'embedding' }, 2500],
])('%s', (_name, over, micro) => {
  expect(priceCall({ ...call, ...over })).toBe(micro);
});
