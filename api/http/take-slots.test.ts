import { expect, test } from '@jest/globals';
import { takeSlots } from './take-slots.ts';

test('nobody has more than its share, all together no more than there are, and what is freed is there once', () => {
  const take = takeSlots({ total: 3, perOwner: 2 });
  const free = [take('a'), take('a')];
  expect(free.every((release) => release !== null)).toBe(true);
  expect(take('a')).toBeNull();
  const other = take('b');
  expect(other).not.toBeNull();
  expect(take('c')).toBeNull();
  free[0]?.();
  free[0]?.();
  expect(take('c')).not.toBeNull();
  expect(take('d')).toBeNull();
  other?.();
  expect(take('a')).not.toBeNull();
  expect(take('a')).toBeNull();
});
