import { beforeAll, expect, test } from '@jest/globals';
import { generatorOf } from '../workers/testing/generator.ts';
import { walkBlock } from '../workflows/domain/proof/povw-arithmetic.ts';
import { deflatedShare, intervalOf, measureDetection, visitedBlocks } from './proof-detection.ts';
import type { Detection } from './timed-attacks.ts';
import { formulaOfTime, leastMisses } from './walk-clock.ts';

let detections: Detection[] = [];
beforeAll(() => void (detections = measureDetection(100, 15)), 180_000);

test('an honest prover is never refused', () => {
  const honest = detections.filter(({ attack }) => attack.startsWith("nobody's"));
  expect(honest.map(({ caught, formula }) => ({ caught, formula }))).toEqual([
    { caught: 0, formula: 0 },
    { caught: 0, formula: 0 },
  ]);
});

test('every cheat is caught no less often than its formula says', () => {
  for (const { attack, runs, caught, formula, time } of detections) {
    const [least, most] = intervalOf(caught, runs);
    expect({ attack, most: Math.max(most, formula) }).toEqual({ attack, most });
    if (formula === 1) expect({ attack, caught }).toEqual({ attack, caught: runs });
    // where samples decide, the formula is the rate itself
    if (time === null) expect({ attack, least: Math.min(least, formula) }).toEqual({ attack, least });
  }
});

test.each([
  'replays an earlier launch',
  '2.8 % from host memory, gap 50, fetches whole blocks ahead',
  '2.8 % from host memory, gap 50, fetches rows of every block',
  'makes 2 of 284 blocks again, with all factors there',
  'one GPU as two ids, same window, memory for both',
  '10 % on a neighbour that fills its own memory in the same window: 5 % of both from host memory',
])('always caught: %s', (name) => {
  expect(detections.find(({ attack }) => attack === name)).toMatchObject({ caught: 100, formula: 1 });
});

test('what the clock cannot see is said to be never caught', () => {
  const unseen = detections.filter(({ formula, time }) => formula === 0 && time !== null);
  expect(unseen.map(({ attack, caught }) => [attack, caught])).toEqual(unseen.map(({ attack }) => [attack, 0]));
  expect(unseen.map(({ attack }) => attack)).toEqual(
    expect.arrayContaining([
      'one GPU as two ids, in turn',
      '10 % on a neighbour with room for it, which need not prove',
      '10.0 % of the rows on such a host and 2.0 % from its memory, gap 50',
    ]),
  );
});

test('there is nothing to steer: whatever is changed in x, step t multiplies with block t mod M', () => {
  const honest = visitedBlocks(() => undefined);
  expect(honest).toEqual(honest.map((_, t) => (walkBlock(t, 42) < 2 ? -1 : walkBlock(t, 42))));
  for (let entry = -127; entry <= 127; entry += 10)
    expect(visitedBlocks((x, step) => void (x[step % x.length] = entry))).toEqual(honest);
});

test('a cyclic order leaves the best cache no better than holding a fixed part; a random order known beforehand does', () => {
  const [blocks, missing] = [100, 10];
  const uniform = generatorOf(1);
  const cyclic = Array.from({ length: 4000 }, (_, t) => walkBlock(t, blocks));
  const random = cyclic.map(() => Math.floor(uniform() * blocks));
  expect(leastMisses(cyclic, blocks, missing)).toBeCloseTo(0.1, 2);
  expect(leastMisses(random, blocks, missing)).toBeLessThan(0.05);
});

test('the chance of a measured time above the bound grows with the time, from never to always', () => {
  expect(formulaOfTime(1)).toBe(0);
  expect(formulaOfTime(1.3)).toBe(1);
  expect(formulaOfTime(1.24)).toBeGreaterThan(formulaOfTime(1.22));
});

test('filled memory cannot be compressed', () => {
  expect(deflatedShare()).toBeGreaterThan(0.995);
});

test('the interval holds the rate and narrows with runs', () => {
  const [few, many] = [intervalOf(50, 100), intervalOf(5000, 10_000)];
  expect(few[0]).toBeLessThan(0.5);
  expect(few[1]).toBeGreaterThan(0.5);
  expect(many[1] - many[0]).toBeLessThan(few[1] - few[0]);
});
