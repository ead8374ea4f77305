import {
  formulaOfTime,
  measuredTime,
  noiseOf,
  WALK,
  WALK_BOUND,
  walkAll,
  walkFetchingRows,
  walkMakingAgain,
  walkOnHost,
  walkPrefetching,
  walkWithHost,
  walkWithNeighbour,
  type Noise,
} from './walk-clock.ts';

export interface Detection {
  attack: string;
  runs: number;
  caught: number;
  /** probability of being caught, by the formula; where a clock catches, the least that any prover of this kind can reach */
  formula: number;
  /** mean measured time of the (later) walk over the calibrated one; null where the samples catch */
  time: number | null;
}

/** Name, time of the walk in calibrated steps, and the least average time of a step that any schedule of this cheat can reach. */
type TimedAttack = [attack: string, walk: (noise: Noise) => number, leastStep: number];

const share = (missing: number): number => missing / WALK.blocks;
const streams = (missing: number, gap: number): TimedAttack[] => {
  const least = Math.max(1, share(missing) * gap);
  const name = `${(100 * share(missing)).toFixed(1)} % from host memory, gap ${gap}`;
  return [
    [`${name}, fetches whole blocks ahead`, (noise) => walkPrefetching(noise, missing, gap), least],
    [`${name}, fetches rows of every block`, (noise) => walkFetchingRows(noise, share(missing), gap), least],
  ];
};
const hostRows = (part: number): TimedAttack => [
  `${(100 * part).toFixed(1)} % of the rows on a host with matrix units, gap 10`,
  (noise) => walkWithHost(noise, part, 10),
  Math.max(1 - part, 10 * part),
];
const hostSteps = (missing: number, gap: number): TimedAttack => [
  `${(100 * share(missing)).toFixed(1)} % of the steps on such a host, gap ${gap}`,
  (noise) => walkOnHost(noise, missing, gap),
  1 + share(missing) * (gap - 1),
];
const again = (missing: number, chosen: boolean): TimedAttack => [
  `makes ${missing} of ${WALK.blocks} blocks again, ${chosen ? 'with all factors there' : 'drawn at random, recursively'}`,
  (noise) => walkMakingAgain(noise, missing, chosen),
  1 + share(missing) * 64,
];
const neighbour = (missing: number, proving: boolean): TimedAttack => [
  `${(100 * share(missing)).toFixed(0)} % on a neighbour with room for it, ${proving ? 'which proves in the same window' : 'which need not prove'}`,
  (noise) => walkWithNeighbour(noise, missing, proving),
  proving ? 1 + share(missing) : 1 + 0.2 * share(missing),
];

const ATTACKS: TimedAttack[] = [
  ["nobody's: an honest walk", (noise) => walkAll(noise), 1],
  ...streams(3, 50),
  ...streams(7, 50),
  ...streams(8, 50),
  ...streams(18, 20),
  hostRows(0.1),
  hostRows(0.125),
  hostRows(0.14),
  hostSteps(8, 10),
  [
    '10.0 % of the rows on such a host and 2.0 % from its memory, gap 50',
    (noise) => walkWithHost(noise, 0.1, 10, 0.02, 50),
    1,
  ],
  again(1, true),
  again(2, true),
  again(28, false),
  ['a card of 3/4 of the speed', (noise) => walkAll(noise, 4 / 3), 4 / 3],
  ['one GPU as two ids, in turn', (noise) => Math.max(walkAll(noise), walkAll(noise)), 1],
  ['one GPU as two ids, same window, half of each in host memory', (noise) => walkFetchingRows(noise, 0.5, 50, 2), 50],
  ['one GPU as two ids, same window, memory for both', (noise) => walkFetchingRows(noise, 0, 50, 2), 2],
  neighbour(28, false),
  neighbour(142, false),
  neighbour(28, true),
  neighbour(85, true),
  [
    '10 % on a neighbour that fills its own memory in the same window: 5 % of both from host memory',
    (noise) => walkFetchingRows(noise, 0.05, 50),
    2.5,
  ],
];

/** Cheats that only the clock sees; caught when a walk is measured above the bound. */
export function timedAttacks(runs: number): Detection[] {
  return ATTACKS.map(([attack, walk, leastStep], index) => {
    let [caught, sum] = [0, 0];
    for (let round = 0; round < runs; round++) {
      const noise = noiseOf(round * ATTACKS.length + index);
      const time = measuredTime(walk(noise), noise);
      sum += time;
      if (time > WALK_BOUND) caught++;
    }
    return { attack, runs, caught, formula: formulaOfTime(leastStep), time: sum / runs };
  });
}
