/**
 * How often each cheat of docs/proof.md "Attacks" is caught, beside what its formula says. Everything is seeded.
 * `node bench/proof-detection.ts [--full]`: a table; --full makes 10,000 runs of each.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { u32le } from '../workflows/domain/proof/bytes.ts';
import { drawSamples } from '../workflows/domain/proof/draw-samples.ts';
import type { PovwChallenge, PovwProfile } from '../workflows/domain/proof/messages.ts';
import { checksum, mix, weightsOf } from '../workflows/domain/proof/povw-arithmetic.ts';
import { PROFILES } from '../workflows/domain/proof/profiles.ts';
import { vectorChallenge } from '../workflows/domain/proof/proof-vectors.ts';
import { createProver, PLAIN_ENGINE, type ProofEngine } from '../workflows/domain/proof/prover.ts';
import { verifyOpenings, type VerifyOpenings } from '../workflows/domain/proof/verify-openings.ts';

export interface Detection {
  attack: string;
  runs: number;
  caught: number;
  /** probability of being caught, by the formula */
  formula: number;
  /** the measured rate's interval that holds the true one with 99.9 % */
  interval: [number, number];
}

/** Bound on a walk's time over the calibrated one (spec §5.7, message flow). */
export const WALK_BOUND = 1.25;

const seeded = (round: number, salt: number): Uint8Array => sha256(new Uint8Array([...u32le(round), ...u32le(salt)]));
const junk = (length: number, at: number): Int8Array =>
  Int8Array.from({ length }, (_, index) => ((index * 37 + at * 11) % 251) - 125);
const PROFILE: PovwProfile = {
  ...PROFILES['tiny-a'],
  n: 6,
  k: 2,
  blocks: 42,
  steps: 60,
  fillSamples: 16,
  walkSamples: 16,
};

const challengeOf = (
  profile: PovwProfile,
  round: number,
  over: Partial<PovwChallenge['binding']> = {},
): PovwChallenge => ({
  profile,
  binding: { ...vectorChallenge(profile).binding, validatorNonce: bytesToHex(seeded(round, 1)), ...over },
});

function prove(challenge: PovwChallenge, round: number, engine: Partial<ProofEngine> = {}) {
  const prover = createProver(challenge, { ...PLAIN_ENGINE, ...engine });
  const { root } = prover.commit();
  const nonce2 = bytesToHex(seeded(round, 2));
  const walk = prover.walk(nonce2);
  return (samplesRound: number): VerifyOpenings => {
    const samples = drawSamples(challenge.profile, seeded(samplesRound, 3));
    return { challenge, root, nonce2, walk, samples, openings: prover.open(samples) };
  };
}

const isCaught = (proof: VerifyOpenings): boolean => !verifyOpenings(proof).verified;

/** Every attack; `runs` draws of samples (or walks) each. */
export function measureDetection(runs: number): Detection[] {
  return [honest(runs), ...liesInBlocks(runs), inventsSteps(runs), ...replays(runs), ...timed(runs), steers(runs)];
}

function honest(runs: number): Detection {
  let refused = 0;
  for (let round = 0; round < runs; round++) {
    const profile = round % 2 ? PROFILES['tiny-a'] : { ...PROFILES['tiny-b'], fillSamples: 12, walkSamples: 12 };
    if (isCaught(prove(challengeOf(profile, round), round)(round))) refused++;
  }
  return { attack: 'none: an honest prover', runs, caught: refused, formula: 0, interval: intervalOf(refused, runs) };
}

/** Committed blocks of invented contents: a sample that falls on one sees a wrong entry but for one in 255. */
function liesInBlocks(runs: number): Detection[] {
  return [1, 2, 4, 8].map((lies) => {
    const engine: Partial<ProofEngine> = {
      multiply: (left, right, i, n) =>
        i % 5 === 4 && i < 5 * lies ? junk(n * n, i) : PLAIN_ENGINE.multiply(left, right, i, n),
    };
    const open = prove(challengeOf(PROFILE, 1), 1, engine);
    const share = wrongShare(PROFILE, engine);
    const caught = count(runs, (round) => isCaught(open(round)));
    const attack = `lies in ${lies} of ${PROFILE.blocks} blocks, ${PROFILE.fillSamples} samples`;
    return {
      attack,
      runs,
      caught,
      formula: 1 - (1 - share) ** PROFILE.fillSamples,
      interval: intervalOf(caught, runs),
    };
  });
}

/** Share of all entries that differ from what the opened rows make: counted, so that lucky entries are not held against the formula. */
function wrongShare({ n, blocks }: PovwProfile, engine: Partial<ProofEngine>): number {
  let wrong = 0;
  const counting: Partial<ProofEngine> = {
    multiply: (left, right, i, edge) => {
      const honestBlock = PLAIN_ENGINE.multiply(left, right, i, edge);
      const made = engine.multiply?.(left, right, i, edge) ?? honestBlock;
      wrong += made.reduce((sum, entry, at) => sum + (entry === honestBlock[at] ? 0 : 1), 0);
      return made;
    },
  };
  createProver(challengeOf(PROFILE, 1), { ...PLAIN_ENGINE, ...counting }).commit();
  return wrong / (blocks * n * n);
}

/** A tenth of the steps invented (the block was missing). Samples 0 and 1 are the ends, which are honest here. */
function inventsSteps(runs: number): Detection {
  let wrong = 0;
  const engine: Partial<ProofEngine> = {
    step: (block, x, t, n, k) => {
      const next = PLAIN_ENGINE.step(block, x, t, n, k);
      if (t % 10 !== 5) return next;
      const invented = junk(n * k, t);
      wrong += invented.reduce((sum, entry, at) => sum + (entry === next[at] ? 0 : 1), 0);
      return invented;
    },
  };
  const { n, k, steps, walkSamples } = PROFILE;
  const open = prove(challengeOf(PROFILE, 2), 2, engine);
  const caught = count(runs, (round) => isCaught(open(round)));
  const formula = 1 - (1 - wrong / (steps * n * k)) ** (walkSamples - 2);
  return {
    attack: `invents a tenth of the steps, ${walkSamples} samples`,
    runs,
    caught,
    formula,
    interval: intervalOf(caught, runs),
  };
}

/**
 * The weakness of povw/1 (docs/proof.md "Steering"): half of the blocks are away, and where the walk would go to one, a single entry
 * of x is changed until it goes elsewhere. The clock sees nothing; a sample must hit just that entry of n·k.
 */
function steers(runs: number): Detection {
  const profile: PovwProfile = { ...PROFILE, n: 24, k: 8, blocks: 40 };
  const { n, k, blocks, steps, walkSamples } = profile;
  const isAway = (x: Int8Array): boolean => {
    const u = Uint32Array.from({ length: k }, (_, c) => checksum(x, c * n, n, weightsOf(n)));
    return mix(u) % blocks >= blocks / 2;
  };
  let wrong = 0;
  const engine: Partial<ProofEngine> = {
    step: (block, x, t, edge, width) => {
      const next = PLAIN_ENGINE.step(block, x, t, edge, width);
      const honestEntry = next[n + 1] ?? 0;
      for (let entry = -127; entry <= 127 && isAway(next); entry++) next[n + 1] = entry;
      if (isAway(next)) throw new Error('no entry steers past the missing blocks');
      if (next[n + 1] !== honestEntry) wrong++;
      return next;
    },
  };
  const open = prove(challengeOf(profile, 3), 3, engine);
  const caught = count(runs, (round) => isCaught(open(round)));
  const formula = 1 - (1 - wrong / (steps * n * k)) ** (walkSamples - 2);
  return {
    attack: 'steers past half of the blocks, n·k = 192',
    runs,
    caught,
    formula,
    interval: intervalOf(caught, runs),
  };
}

/** Work of another launch, another second nonce, another GPU id: never accepted. */
function replays(runs: number): Detection[] {
  const few = Math.min(runs, 500);
  const profile = { ...PROFILES['tiny-a'], fillSamples: 16, walkSamples: 16 };
  const of = (attack: string, replay: (round: number) => VerifyOpenings): Detection => {
    const caught = count(few, (round) => isCaught(replay(round)));
    return { attack, runs: few, caught, formula: 1, interval: intervalOf(caught, few) };
  };
  return [
    of('replays an earlier launch', (round) => ({
      ...prove(challengeOf(profile, round), round)(round),
      challenge: challengeOf(profile, round + 1),
    })),
    of('replays the walk of an earlier nonce', (round) => ({
      ...prove(challengeOf(profile, round), round)(round),
      nonce2: bytesToHex(seeded(round + 1, 2)),
    })),
    of("answers with another GPU's work", (round) => ({
      ...prove(challengeOf(profile, round), round)(round),
      challenge: challengeOf(profile, round, { gpuUuid: 'd0'.repeat(16) }),
    })),
  ];
}

/**
 * Attacks that the clock must catch: a share f of the blocks is missing and each step that needs one takes `gap` times as long. The
 * blocks a real walk visits decide how many steps that are; caught when the walk takes more than WALK_BOUND. `gap` is measured per
 * card (`graval bench`): here it is a parameter.
 */
function timed(runs: number): Detection[] {
  const profile: PovwProfile = {
    ...PROFILES['tiny-a'],
    n: 2,
    k: 1,
    blocks: 102,
    steps: 400,
    fillSamples: 2,
    walkSamples: 2,
  };
  const attacks = [
    ['keeps 1 % in host memory, gap 50 (80 GB class)', 1, 50],
    ['keeps 2 % in host memory, gap 20 (the least accepted)', 2, 20],
    ['multiplies 3 % on the host, gap 10', 3, 10],
    ['computes 1 % again when needed, gap 90', 1, 90],
    ['reads 10 % from a neighbour, gap 1.2: the clock cannot see it', 10, 1.2],
    ['one GPU as two at once: half of each, gap 50', 50, 50],
  ] as const;
  const many = Math.min(runs, 2000);
  const visits = Array.from({ length: many }, (_, round) => visitsOf(profile, round));
  return attacks.map(([attack, missing, gap]) => {
    // blocks 2 … missing + 1 of 102 are away
    const caught = count(many, (round) => {
      const slow = (visits[round] ?? []).filter((block) => block >= 2 && block < 2 + missing).length;
      return isTooSlow(slow, profile.steps, gap);
    });
    const share = missing / profile.blocks;
    let formula = 0;
    for (let slow = 0; slow <= profile.steps; slow++)
      if (isTooSlow(slow, profile.steps, gap)) formula += binomial(profile.steps, slow, share);
    return { attack, runs: many, caught, formula: Math.min(formula, 1), interval: intervalOf(caught, many) };
  });
}

const isTooSlow = (slow: number, steps: number, gap: number): boolean => 1 + (slow / steps) * (gap - 1) > WALK_BOUND;

/** Block number of each step of one honest walk; −1 for the first two, which no product makes. */
function visitsOf(profile: PovwProfile, round: number): number[] {
  const numbers = new Map<Int8Array, number>();
  const visited: number[] = [];
  const engine: ProofEngine = {
    multiply: (left, right, i, n) => {
      const block = PLAIN_ENGINE.multiply(left, right, i, n);
      numbers.set(block, i);
      return block;
    },
    step: (block, x, t, n, k) => {
      visited.push(numbers.get(block) ?? -1);
      return PLAIN_ENGINE.step(block, x, t, n, k);
    },
  };
  const prover = createProver(challengeOf(profile, round), engine);
  prover.commit();
  prover.walk(bytesToHex(seeded(round, 4)));
  return visited;
}

function count(runs: number, holds: (round: number) => boolean): number {
  let found = 0;
  for (let round = 0; round < runs; round++) if (holds(round)) found++;
  return found;
}

/** Probability of exactly `hits` in `draws`. */
function binomial(draws: number, hits: number, share: number): number {
  let log = hits * Math.log(share) + (draws - hits) * Math.log1p(-share);
  for (let at = 0; at < hits; at++) log += Math.log((draws - at) / (hits - at));
  return Math.exp(log);
}

/** Wilson's interval, z = 3.29. */
export function intervalOf(found: number, runs: number): [number, number] {
  const z = 3.29;
  const rate = found / runs;
  const middle = (rate + z ** 2 / (2 * runs)) / (1 + z ** 2 / runs);
  const half = (z / (1 + z ** 2 / runs)) * Math.sqrt((rate * (1 - rate)) / runs + z ** 2 / (4 * runs ** 2));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

if (import.meta.main) {
  for (const { attack, runs, caught, formula, interval } of measureDetection(
    process.argv.includes('--full') ? 10_000 : 1000,
  )) {
    const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
    console.log(
      `| ${attack} | ${runs} | ${percent(caught / runs)} (${interval.map(percent).join(' to ')}) | ${percent(formula)} |`,
    );
  }
}
