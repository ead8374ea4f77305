import { generatorOf } from '../workers/testing/generator.ts';
import { walkBlock } from '../workflows/domain/proof/povw-arithmetic.ts';

/**
 * The clock of a walk by provers that lack blocks, event by event in the walk's own order. Times are in calibrated steps: an honest
 * step takes 1, a block that comes from elsewhere `gap`. What is hard to price is the prover's for nothing: rows wait in buffers that
 * take no memory, x travels to a host in no time, the walk starts with the best choice of blocks.
 */
export const WALK = { blocks: 284, steps: 2840 } as const;
/** Bound on a walk's time over the calibrated one (spec §5.7, message flow). */
export const WALK_BOUND = 1.25;
/** A machine's speed differs by up to this share from the calibrated one, and so does every single step from the next. */
export const JITTER = 0.03;
/** Network round trip as shares of the calibrated walk: 20 to 300 ms beside 15 s. */
export const ROUND_TRIP = [0.02 / 15, 0.3 / 15] as const;

/** What differs from run to run. `uniform` is in [0, 1), `around` is 1 ± JITTER, both new at every call. */
export interface Noise {
  uniform: () => number;
  around: () => number;
  machine: number;
  roundTrip: number;
}

export function noiseOf(seed: number): Noise {
  const uniform = generatorOf(seed);
  const around = () => 1 + JITTER * (2 * uniform() - 1);
  const [least, most] = ROUND_TRIP;
  return { uniform, around, machine: around(), roundTrip: least + (most - least) * uniform() };
}

/** What the validator measures, over the calibrated walk. */
export const measuredTime = (steps: number, noise: Noise): number =>
  (steps / WALK.steps) * noise.machine + noise.roundTrip;

/** Probability that a walk whose steps take `time` on average is measured above the bound. */
export function formulaOfTime(time: number): number {
  const slices = 2000;
  const [least, most] = ROUND_TRIP;
  let sum = 0;
  for (let slice = 0; slice < slices; slice++) {
    const roundTrip = least + ((most - least) * (slice + 0.5)) / slices;
    const machine = (WALK_BOUND - roundTrip) / time; // slower than this is above the bound
    sum += Math.min(1, Math.max(0, (1 + JITTER - machine) / (2 * JITTER)));
  }
  return sum / slices;
}

/** Every block is there. `slowness`: time of this card's step over the announced card's. */
export function walkAll(noise: Noise, slowness = 1): number {
  let now = 0;
  for (let t = 0; t < WALK.steps; t++) now += slowness * noise.around();
  return now;
}

/**
 * `missing` whole blocks lie behind a link that carries one block in `gap` steps. The order is known, so the link always brings the
 * missing block that is needed soonest, into the place of the one needed last (Belady), if that is later. A block on its way
 * occupies its place already: one block more is missing than for a prover that fetches rows.
 */
export function walkPrefetching(noise: Noise, missing: number, gap: number): number {
  const { blocks, steps } = WALK;
  const readyAt = new Float64Array(blocks);
  const away = spread(missing); // next steps that need a missing block, ascending
  for (const step of away) readyAt[step] = Infinity;
  let linkFree = 0;
  let now = 0;
  for (let t = 0; t < steps; t++) {
    if (readyAt[walkBlock(t, blocks)] === Infinity) fetch(t, now);
    const start = Math.max(now, readyAt[walkBlock(t, blocks)] ?? 0);
    now = start + noise.around();
    while (linkFree < now && fetch(t, start));
  }
  return now;

  /** Starts the next transfer while step t is in work (or about to be, when it is what is fetched). */
  function fetch(t: number, at: number): boolean {
    const [needed] = away;
    if (needed === undefined) return false;
    let last = t - 1 + blocks; // the block used just now is needed last, the one before it next to last
    while (last > needed && readyAt[walkBlock(last, blocks)] === Infinity) last--;
    if (last <= needed) return false;
    away.shift();
    readyAt[walkBlock(last, blocks)] = Infinity;
    away.splice(away.findLastIndex((step) => step < last) + 1, 0, last);
    linkFree = Math.max(linkFree, at) + gap * noise.around();
    readyAt[walkBlock(needed, blocks)] = linkFree;
    return true;
  }
}

/** A share of every block's rows lies behind the link, which works one step ahead. `walks` share the card and the link in turns. */
export function walkFetchingRows(noise: Noise, share: number, gap: number, walks = 1): number {
  let [now, before, linkFree] = [0, 0, 0];
  for (let t = 0; t < WALK.steps * walks; t++) {
    linkFree = Math.max(linkFree, before) + share * gap * noise.around();
    before = now;
    const mine = now + (1 - share) * noise.around();
    now = Math.max(mine, linkFree) + share * noise.around();
  }
  return now;
}

/** A host multiplies its share of every block's rows beside the card, and streams `streamed` more to it over the link. */
export function walkWithHost(noise: Noise, share: number, gap: number, streamed = 0, linkGap = 0): number {
  let now = 0;
  for (let t = 0; t < WALK.steps; t++) {
    const card = (1 - share) * noise.around();
    now += Math.max(card, share * gap * noise.around(), streamed * linkGap * noise.around());
  }
  return now;
}

/** A host keeps `missing` whole blocks and multiplies their steps; the next step needs its answer. */
export function walkOnHost(noise: Noise, missing: number, gap: number): number {
  const onHost = new Set(spread(missing));
  let now = 0;
  for (let t = 0; t < WALK.steps; t++) now += (onHost.has(walkBlock(t, WALK.blocks)) ? gap : 1) * noise.around();
  return now;
}

/**
 * Missing blocks are made again when needed: a product of B_{i−1} and B_j, n/k steps of matrix work (64 at 80 GB), after those of its
 * factors that are missing too. `chosen`: blocks no one of which is a factor of another, else drawn at random.
 */
export function walkMakingAgain(noise: Noise, missing: number, chosen: boolean, product = 64): number {
  const { blocks, steps } = WALK;
  const partner = Array.from({ length: blocks }, (_, i) => Math.floor(noise.uniform() * Math.max(0, i - 1)));
  const away = new Set<number>();
  while (away.size < missing) {
    const block = 2 + Math.floor(noise.uniform() * (blocks - 2));
    const clash = [...away, block].some((i) => [i - 1, partner[i] ?? 0].some((j) => j === block || away.has(j)));
    if (!chosen || !clash) away.add(block);
  }
  const products = (block: number, made: Set<number>): number => {
    if (!away.has(block) || made.has(block)) return 0;
    made.add(block);
    return 1 + products(block - 1, made) + products(partner[block] ?? 0, made);
  };
  const cost = Array.from({ length: blocks }, (_, block) => 1 + product * products(block, new Set()));
  let now = 0;
  for (let t = 0; t < steps; t++) now += (cost[walkBlock(t, blocks)] ?? 1) * noise.around();
  return now;
}

/**
 * A neighbour holds `missing` blocks and multiplies their steps at once: 1 of its time and 0.2 on the way. `proving`: it walks as
 * well, all its own blocks, between these requests. The later of the two walks.
 */
export function walkWithNeighbour(noise: Noise, missing: number, proving: boolean): number {
  const { blocks, steps } = WALK;
  const onNeighbour = new Set(spread(missing));
  let [now, neighbour, own] = [0, 0, proving ? 0 : steps];
  for (let t = 0; t < steps; t++) {
    if (!onNeighbour.has(walkBlock(t, blocks))) {
      now += noise.around();
      continue;
    }
    for (; own < steps && neighbour <= now; own++) neighbour += noise.around();
    neighbour = Math.max(neighbour, now) + noise.around();
    now = neighbour + 0.2 * noise.around();
  }
  if (!proving) return now;
  for (; own < steps; own++) neighbour += noise.around();
  return Math.max(now, neighbour);
}

/**
 * Share of reads that the best cache (Belady's, which may also pass a block through without keeping it) still misses when it has
 * room for all blocks but `missing`, over an order known beforehand.
 */
export function leastMisses(order: readonly number[], blocks: number, missing: number): number {
  const nextUse = order.map(() => Infinity);
  const seen = Array.from({ length: blocks }, () => Infinity);
  for (let t = order.length - 1; t >= 0; t--) {
    const block = order[t] ?? 0;
    nextUse[t] = seen[block] ?? Infinity;
    seen[block] = t;
  }
  // at the start the blocks needed last are missing; a held block maps to its next use
  const byFirstUse = seen.map((use, block) => ({ use, block })).sort((a, b) => a.use - b.use);
  const held = new Map(byFirstUse.slice(0, blocks - missing).map(({ use, block }) => [block, use]));
  let misses = 0;
  for (const [t, block] of order.entries()) {
    if (!held.has(block)) misses++;
    held.set(block, nextUse[t] ?? Infinity);
    if (held.size <= blocks - missing) continue;
    let victim = block;
    for (const [other, use] of held) if (use > (held.get(victim) ?? 0)) victim = other;
    held.delete(victim);
  }
  return misses / order.length;
}

/** Numbers of `count` blocks at even distances, ascending. */
const spread = (count: number): number[] =>
  Array.from({ length: count }, (_, at) => Math.floor(((at + 1) * WALK.blocks) / count) - 1);
