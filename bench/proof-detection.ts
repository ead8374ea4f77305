/**
 * How often each cheat of docs/proof.md "Attacks" is caught, beside what its formula says. Everything is seeded.
 * `node bench/proof-detection.ts [--full]`: a table; --full makes 10,000 runs of each (about 15 minutes).
 */
import { deflateRawSync } from 'node:zlib';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { generatorOf } from '../workers/testing/generator.ts';
import { u32le } from '../workflows/domain/proof/bytes.ts';
import { drawSamples } from '../workflows/domain/proof/draw-samples.ts';
import type { PovwChallenge, PovwProfile } from '../workflows/domain/proof/messages.ts';
import { walkBlock } from '../workflows/domain/proof/povw-arithmetic.ts';
import { PROFILES } from '../workflows/domain/proof/profiles.ts';
import { vectorChallenge } from '../workflows/domain/proof/proof-vectors.ts';
import { createProver, PLAIN_ENGINE, type ProofEngine } from '../workflows/domain/proof/prover.ts';
import { verifyOpenings, type VerifyOpenings } from '../workflows/domain/proof/verify-openings.ts';
import { timedAttacks, type Detection } from './timed-attacks.ts';
import { leastMisses, WALK } from './walk-clock.ts';

const seeded = (round: number, salt: number): Uint8Array => sha256(new Uint8Array([...u32le(round), ...u32le(salt)]));
const junk = (length: number, at: number): Int8Array =>
  Int8Array.from({ length }, (_, index) => ((index * 37 + at * 11) % 251) - 125);
const PROFILE: PovwProfile = {
  ...PROFILES['tiny-a'],
  n: 6,
  k: 2,
  blocks: 42,
  steps: 84,
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

function measure(attack: string, runs: number, formula: number, isCaughtIn: (round: number) => boolean): Detection {
  let caught = 0;
  for (let round = 0; round < runs; round++) if (isCaughtIn(round)) caught++;
  return { attack, runs, caught, formula, time: null };
}

/** Every attack in `runs` runs; an honest prover, which makes a whole proof each time, in `honestRuns`. */
export function measureDetection(runs: number, honestRuns: number): Detection[] {
  return [
    measure("nobody's: an honest prover, profile cpu-dev", honestRuns, 0, (round) =>
      isCaught(prove(challengeOf(PROFILES['cpu-dev'], round), round)(round)),
    ),
    ...liesInBlocks(runs),
    inventsSteps(runs, 'invents a tenth of the steps', (step) => step % 10 === 5),
    // step t + 1 makes x from block t; two of the 42 blocks are missing
    inventsSteps(runs, 'changes an entry before a missing block (2 of 42), then has to invent', (step) =>
      MISSING.includes(walkBlock(step - 1, PROFILE.blocks)),
    ),
    ...replays(runs),
    ...timedAttacks(runs),
  ];
}

/** Committed blocks of invented contents: a sample that falls on one sees a wrong entry but for one in 255. */
function liesInBlocks(runs: number): Detection[] {
  return [1, 2, 4, 8].map((lies) => {
    const engine: Partial<ProofEngine> = {
      multiply: (left, right, i, n) =>
        i % 5 === 4 && i < 5 * lies ? junk(n * n, i) : PLAIN_ENGINE.multiply(left, right, i, n),
    };
    const open = prove(challengeOf(PROFILE, 1), 1, engine);
    const formula = 1 - (1 - wrongShare(PROFILE, engine)) ** PROFILE.fillSamples;
    const attack = `lies in ${lies} of ${PROFILE.blocks} blocks, ${PROFILE.fillSamples} samples`;
    return measure(attack, runs, formula, (round) => isCaught(open(round)));
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

const MISSING: readonly number[] = [13, 29];

/**
 * Steps whose x is invented since their block was missing; a sample sees it but for one entry in 255. Samples 0 and 1 are the ends,
 * which are honest here. Before each invented step one entry is changed as well, as a prover of povw/1 would to be sent elsewhere.
 */
function inventsSteps(runs: number, attack: string, isInvented: (step: number) => boolean): Detection {
  let wrong = 0;
  const engine: Partial<ProofEngine> = {
    step: (block, x, t, n, k) => {
      const next = PLAIN_ENGINE.step(block, x, t, n, k);
      const made = isInvented(t) ? junk(n * k, t) : Int8Array.from(next);
      if (isInvented(t + 1)) made[n + 1] = next[n + 1] === 5 ? 6 : 5;
      wrong += made.reduce((sum, entry, at) => sum + (entry === next[at] ? 0 : 1), 0);
      return made;
    },
  };
  const { n, k, steps, walkSamples } = PROFILE;
  const open = prove(challengeOf(PROFILE, 2), 2, engine);
  const formula = 1 - (1 - wrong / (steps * n * k)) ** (walkSamples - 2);
  return measure(`${attack}, ${walkSamples} samples`, runs, formula, (round) => isCaught(open(round)));
}

/** Numbers of the blocks a walk multiplies with when `change` alters x after each step; 0 and 1, which no product makes, are −1. */
export function visitedBlocks(change: (x: Int8Array, step: number) => void): number[] {
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
      const next = PLAIN_ENGINE.step(block, x, t, n, k);
      change(next, t);
      return next;
    },
  };
  prove(challengeOf(PROFILE, 3), 3, engine);
  return visited;
}

/** Work of another launch, another second nonce, another GPU id: never accepted. */
function replays(runs: number): Detection[] {
  const profile = { ...PROFILES['tiny-a'], fillSamples: 16, walkSamples: 16 };
  const of = (attack: string, replay: (round: number) => Partial<VerifyOpenings>): Detection =>
    measure(attack, runs, 1, (round) =>
      isCaught({ ...prove(challengeOf(profile, round), round)(round), ...replay(round) }),
    );
  return [
    of('replays an earlier launch', (round) => ({ challenge: challengeOf(profile, round + 1) })),
    of('replays the walk of an earlier nonce', (round) => ({ nonce2: bytesToHex(seeded(round + 1, 2)) })),
    of("answers with another GPU's work", (round) => ({
      challenge: challengeOf(profile, round, { gpuUuid: 'd0'.repeat(16) }),
    })),
  ];
}

/** What a compressor leaves of filled memory (profile cpu-dev), as a share of its size. */
export function deflatedShare(): number {
  const blocks: Uint8Array[] = [];
  prove(challengeOf(PROFILES['cpu-dev'], 4), 4, {
    multiply: (left, right, i, n) => {
      const block = PLAIN_ENGINE.multiply(left, right, i, n);
      blocks.push(new Uint8Array(block.buffer));
      return block;
    },
  });
  const memory = Buffer.concat(blocks);
  return deflateRawSync(memory, { level: 9 }).length / memory.length;
}

/** Wilson's interval of the measured rate, which holds the true one with 99.9 % (z = 3.29). */
export function intervalOf(found: number, runs: number): [number, number] {
  const z = 3.29;
  const rate = found / runs;
  const middle = (rate + z ** 2 / (2 * runs)) / (1 + z ** 2 / runs);
  const half = (z / (1 + z ** 2 / runs)) * Math.sqrt((rate * (1 - rate)) / runs + z ** 2 / (4 * runs ** 2));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

if (import.meta.main) {
  const runs = process.argv.includes('--full') ? 10_000 : 500;
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  for (const { attack, caught, formula, time } of measureDetection(runs, runs)) {
    const interval = intervalOf(caught, runs);
    if (interval[1] < formula) process.exitCode = 1; // caught less often than the formula says
    const times = time === null ? '–' : time.toFixed(2);
    console.log(
      `| ${attack} | ${times} | ${percent(caught / runs)} (${interval.map(percent).join(' to ')}) | ${percent(formula)} |`,
    );
  }
  const uniform = generatorOf(1);
  const cyclic = Array.from({ length: 40 * WALK.blocks }, (_, t) => walkBlock(t, WALK.blocks));
  const random = cyclic.map(() => Math.floor(uniform() * WALK.blocks));
  const [ofCyclic, ofRandom] = [cyclic, random].map((order) => percent(leastMisses(order, WALK.blocks, 28)));
  console.log(
    `28 of 284 blocks missing: Belady misses ${ofCyclic} of a cyclic order, ${ofRandom} of a random one known beforehand`,
  );
  console.log(`${runs} runs of each; deflate leaves ${percent(deflatedShare())} of filled memory`);
}
