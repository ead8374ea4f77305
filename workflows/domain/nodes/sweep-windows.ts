/** What a miner has verified, as far as the choice of windows asks. */
export interface SweptFleet {
  minerHotkey: string;
  /** lower case */
  hosts: readonly string[];
  gpuTypes: readonly string[];
  /** that nothing runs on */
  idleGpus: number;
  /** null: never */
  sinceSweepMs: number | null;
  apartFrom: readonly string[];
}
export interface DueMiner {
  minerHotkey: string;
  /** in whose company GPUs of its own were lost or failed, and whom it has not held beside since */
  apartFrom: readonly string[];
}
export interface SweepWindow {
  /** whose moment has come */
  minerHotkey: string;
  /** it first, then its company */
  minerHotkeys: string[];
}

/** So many GPUs of strangers join a window: together they are judged in minutes. */
export const MAX_STRANGERS_GPUS = 256;
/** Times a miner is drawn into the windows of strangers for each moment of its own. */
const DRAWS = 2;
/** Whoever announces the host of another does not have it swept all day. */
const REST_MS = 3_600_000;
/** Whoever keeps being lost does not have those swept all day that it was lost beside. */
const RETURN_REST_MS = 600_000;

/**
 * Who is swept with whom. A miner whose moment has come takes along those with GPUs on the same hosts, and now and then as many
 * strangers with GPUs of a type of its own as there is room for, drawn at random, each with its neighbours: one card behind two names
 * and two addresses shows only where both names are in one window, and nobody can tell who will be. Seldom and many rather
 * than often and few: a name meets the more others for each time it is swept (`bench/sweep-windows.ts`).
 *
 * Whoever was lost or failed in company comes back only in the same company (`apartFrom`): of two names for one card never more than one
 * is verified once they have met. While any of these rests, it waits.
 *
 * Nobody is drawn in more than once an hour (ten minutes for a return), nor into two windows of one look. Strangers and neighbours
 * come for verified GPUs only. `random` is uniform in [0, 1).
 */
export function sweepWindows({
  due,
  fleets,
  random,
}: {
  due: readonly DueMiner[];
  fleets: readonly SweptFleet[];
  random: () => number;
}): SweepWindow[] {
  const taken = new Set<string>();
  const take = (joining: readonly SweptFleet[]): void => joining.forEach(({ minerHotkey }) => taken.add(minerHotkey));
  const windows: SweepWindow[] = [];
  for (const { minerHotkey, apartFrom } of due) {
    const witnesses = taken.has(minerHotkey) ? null : witnessesOf(apartFrom, []);
    if (!witnesses) continue;
    taken.add(minerHotkey);
    take(witnesses);
    const own = fleets.find((fleet) => fleet.minerHotkey === minerHotkey);
    const company = [...witnesses];
    if (own) {
      const neighbours = neighboursOf(own);
      take(neighbours);
      company.push(...neighbours);
      const strangers = strangersOf(own, [own, ...company]);
      take(strangers);
      company.push(...strangers);
    }
    windows.push({ minerHotkey, minerHotkeys: [minerHotkey, ...company.map((fleet) => fleet.minerHotkey)] });
  }
  return windows;

  function isFree({ minerHotkey, sinceSweepMs }: SweptFleet, restMs: number): boolean {
    return !taken.has(minerHotkey) && (sinceSweepMs === null || sinceSweepMs > restMs);
  }

  /** Those of `apartFrom` that are not there yet; null while one of them cannot come. Who has nothing verified is not waited for. */
  function witnessesOf(apartFrom: readonly string[], company: readonly SweptFleet[]): SweptFleet[] | null {
    const missing = fleets.filter((fleet) => apartFrom.includes(fleet.minerHotkey) && !company.includes(fleet));
    return missing.every((fleet) => isFree(fleet, RETURN_REST_MS)) ? missing : null;
  }

  function neighboursOf({ minerHotkey, hosts }: SweptFleet): SweptFleet[] {
    return fleets.filter(
      (fleet) => fleet.minerHotkey !== minerHotkey && isFree(fleet, REST_MS) && meet(fleet.hosts, hosts),
    );
  }

  function strangersOf({ gpuTypes }: SweptFleet, company: readonly SweptFleet[]): SweptFleet[] {
    const candidates = fleets.filter((fleet) => isFree(fleet, REST_MS) && meet(fleet.gpuTypes, gpuTypes));
    const drawn = new Set<SweptFleet>();
    let draws = 0;
    let room = MAX_STRANGERS_GPUS;
    for (const stranger of shuffled(candidates, random)) {
      if (room <= 0) break;
      const witnesses = drawn.has(stranger) ? null : witnessesOf(stranger.apartFrom, [...company, ...drawn]);
      if (!witnesses) continue;
      const joining = new Set([stranger, ...witnesses, ...neighboursOf(stranger)].filter((fleet) => !drawn.has(fleet)));
      const gpus = [...joining].reduce((sum, { idleGpus }) => sum + idleGpus, 0);
      // one larger than all the room is drawn alone, or it would never be
      if (gpus > room && draws > 0) continue;
      for (const each of joining) drawn.add(each);
      draws++;
      room -= gpus;
    }
    return random() * draws < DRAWS ? [...drawn] : [];
  }
}

/** Who held in a window: all its GPUs verified; and who broke: some were lost or failed. */
export interface Company {
  held: readonly string[];
  broke: readonly string[];
}

/** Whom a miner has to be seen with after this window: whoever breaks with all the others; two that hold side by side have been. */
export function apartAfter(minerHotkey: string, before: readonly string[], { held, broke }: Company): string[] {
  if (!broke.includes(minerHotkey)) return before.filter((each) => !held.includes(each));
  return [...new Set([...before, ...held, ...broke])].filter((each) => each !== minerHotkey).sort();
}

const meet = (some: readonly string[], others: readonly string[]): boolean =>
  some.some((each) => others.includes(each));

/** Fisher and Yates: every order as likely as any other. */
function shuffled<Item>(items: readonly Item[], random: () => number): Item[] {
  const left = [...items];
  const drawn: Item[] = [];
  while (left.length > 0) drawn.push(...left.splice(Math.floor(random() * left.length), 1));
  return drawn;
}
