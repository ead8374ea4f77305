import { expect, test } from '@jest/globals';
import { intervalOf, measureDetection } from './proof-detection.ts';

test('an honest prover is never refused, and every cheat is caught as often as its formula says', () => {
  for (const { attack, runs, caught, formula, interval } of measureDetection(250)) {
    if (formula === 0) expect({ attack, caught }).toEqual({ attack, caught: 0 });
    else if (formula === 1) expect({ attack, caught }).toEqual({ attack, caught: runs });
    else
      expect({ attack, within: interval[0] <= formula && formula <= interval[1], formula, interval }).toMatchObject({
        attack,
        within: true,
      });
  }
}, 60_000);

test('the interval holds the rate and narrows with runs', () => {
  const [few, many] = [intervalOf(50, 100), intervalOf(5000, 10_000)];
  expect(few[0]).toBeLessThan(0.5);
  expect(few[1]).toBeGreaterThan(0.5);
  expect(many[1] - many[0]).toBeLessThan(few[1] - few[0]);
});
