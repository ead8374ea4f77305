import { expect, test } from '@jest/globals';
import { groupsOf, MAX_GROUP } from './proof-groups.ts';

const node = (host: string, port: number, gpuType: string) => ({ host, port, gpuType });

test('one group for each agent and type, in the order they come', () => {
  const [a, b, c, d] = [node('a', 1, 'h100'), node('a', 2, 'h100'), node('a', 1, 'l40'), node('a', 1, 'h100')];
  expect(groupsOf([a, b, c, d])).toEqual([[a, d], [b], [c]]);
  expect(groupsOf([])).toEqual([]);
});

test('never more than an agent proves at once', () => {
  const nodes = Array.from({ length: 2 * MAX_GROUP + 1 }, () => node('a', 1, 'h100'));
  expect(groupsOf(nodes).map(({ length }) => length)).toEqual([MAX_GROUP, MAX_GROUP, 1]);
});
