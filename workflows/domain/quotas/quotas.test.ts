import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { admit, isQuotaFree, quotaOf, type AdmissionInput } from './quota.ts';
import { takeToken, type Bucket } from './token-bucket.ts';
import type { RoutedChute } from '../routing/routed.ts';

const chute = {
  chuteId: 'c',
  ownerId: 'owner',
  ownerPermissions: 0,
  name: 'bot',
  isPublic: true,
  discount: 0,
} as RoutedChute;

test.each([
  ['row of the chute first', { c: 3, '*': 9 }, true, { perDay: 3, counter: 'c' }],
  ['then the wildcard row', { '*': 9 }, true, { perDay: 9, counter: '__default__' }],
  ['then the default', {}, true, { perDay: 200, counter: '__default__' }],
  ['private chutes have none', { c: 3, '*': 9 }, false, { perDay: 0, counter: '__default__' }],
  ['a row of zero is a row', { '*': 0 }, true, { perDay: 0, counter: '__default__' }],
])('quota: %s', (_name, rows, isPublic, expected) => {
  expect(quotaOf({ chuteId: 'c', isPublic }, new Map(Object.entries(rows)), 200)).toEqual(expected);
});

test('a chute named * has the counter all others share', () => {
  expect(quotaOf({ chuteId: '*', isPublic: true }, new Map([['*', 9]]), 200)).toEqual({
    perDay: 9,
    counter: '__default__',
  });
});
test('free and invoiced accounts have no quota', () =>
  expect([0, 16, 256, 2048].map(isQuotaFree)).toEqual([false, true, true, false]));

const nowMs = Date.UTC(2026, 10, 21, 23, 59, 59);
const input = (over: Partial<AdmissionInput> = {}): AdmissionInput => ({
  user: { userId: 'u', username: 'u', permissions: 0 },
  chute,
  quota: { perDay: 10, counter: '__default__' },
  used: 0,
  balanceMicroUsd: 0,
  ownerBalanceMicroUsd: 0,
  nowMs,
  ...over,
});
const paid = { kind: 'admitted', isFree: false, counts: 0 };
const free = { kind: 'admitted', isFree: true, counts: 0 };

describe('admission', () => {
  test.each([
    ['within the quota', {}, { kind: 'admitted', isFree: true, counts: 1 }],
    ['the last of the quota', { used: 9.5 }, { kind: 'admitted', isFree: true, counts: 1 }],
    ['-turbo counts twice', { chute: { ...chute, name: 'x-turbo' } }, { kind: 'admitted', isFree: true, counts: 2 }],
    ['past it with balance', { used: 10, balanceMicroUsd: 1 }, paid],
    ['a free chute', { used: 10, chute: { ...chute, discount: 1 } }, free],
    ['a free account', { used: 10, user: { userId: 'u', username: 'u', permissions: 16 } }, free],
    ['an invoice account', { used: 10, user: { userId: 'u', username: 'u', permissions: 256 } }, paid],
    [
      'a private chute whose owner can pay',
      {
        chute: { ...chute, isPublic: false },
        quota: { perDay: 0, counter: 'x' },
        balanceMicroUsd: 5,
        ownerBalanceMicroUsd: 5,
      },
      paid,
    ],
  ])('%s', (_name, over, expected) => {
    expect(admit(input(over))).toEqual(expected);
  });
  test.each([
    ['past it without balance: until the next UTC midnight', { used: 10 }, Date.UTC(2026, 10, 22)],
    ['no quota at all: no reset to wait for', { quota: { perDay: 0, counter: 'x' } }, null],
    ['a private chute whose owner cannot pay', { chute: { ...chute, isPublic: false }, balanceMicroUsd: 5 }, null],
    ['debt', { used: 10, balanceMicroUsd: -1 }, Date.UTC(2026, 10, 22)],
  ])('refused: %s', (_name, over, quotaResetMs) => {
    expect(admit(input(over))).toMatchObject({ kind: 'refused', quotaResetMs });
  });
});

test('a bucket never gives more than its burst plus its rate, and says truly when to come back', () => {
  const rule = { perMinute: 60, burst: 5 };
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -50, max: 3000 }), { minLength: 1, maxLength: 60 }), (gaps) => {
      let bucket: Bucket | null = null;
      let [atMs, given] = [10_000, 0];
      const latest = { atMs };
      for (const gap of gaps) {
        atMs += gap;
        latest.atMs = Math.max(latest.atMs, atMs);
        const taken = takeToken(bucket, rule, latest.atMs);
        bucket = taken.bucket;
        if (taken.allowed) given += 1;
        else expect(takeToken(bucket, rule, latest.atMs + taken.waitMs).allowed).toBe(true);
      }
      expect(given).toBeLessThanOrEqual(5 + (latest.atMs - 10_000) / 1000 + 1e-6);
    }),
  );
});
