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

/**
 * Who is swept with whom. A miner whose moment has come takes along those with GPUs on the same hosts, and now and then as many
 * strangers with GPUs of a type of its own as there is room for, drawn at random, each with its neighbours: one card behind two names
 * and two addresses shows only where both names are in one window, and nobody can tell who will be. Seldom and many rather
 * than often and few: a name meets the more others for each time it is swept (`bench/sweep-windows.ts`). Nobody is drawn in more than once
 * an hour, nor into two windows of one look. Only verified GPUs draw others in. `random` is uniform in [0, 1).
 */
export function sweepWindows({
  due,
  fleets,
  random,
}: {
  due: readonly string[];
  fleets: readonly SweptFleet[];
  random: () => number;
}): SweepWindow[] {
  const taken = new Set<string>();
  const take = (fleet: SweptFleet): void => void taken.add(fleet.minerHotkey);
  const windows: SweepWindow[] = [];
  for (const minerHotkey of due) {
    if (taken.has(minerHotkey)) continue;
    taken.add(minerHotkey);
    const own = fleets.find((fleet) => fleet.minerHotkey === minerHotkey);
    const neighbours = own ? neighboursOf(own) : [];
    neighbours.forEach(take);
    const strangers = own ? strangersOf(own) : [];
    strangers.forEach(take);
    const company = [...neighbours, ...strangers].map((fleet) => fleet.minerHotkey);
    windows.push({ minerHotkey, minerHotkeys: [minerHotkey, ...company] });
  }
  return windows;

  function canJoin({ minerHotkey, sinceSweepMs }: SweptFleet): boolean {
    return !taken.has(minerHotkey) && (sinceSweepMs === null || sinceSweepMs > REST_MS);
  }

  function neighboursOf({ minerHotkey, hosts }: SweptFleet): SweptFleet[] {
    return fleets.filter((fleet) => fleet.minerHotkey !== minerHotkey && canJoin(fleet) && meet(fleet.hosts, hosts));
  }

  function strangersOf({ gpuTypes }: SweptFleet): SweptFleet[] {
    const candidates = fleets.filter((fleet) => canJoin(fleet) && meet(fleet.gpuTypes, gpuTypes));
    const drawn = new Set<SweptFleet>();
    let draws = 0;
    let room = MAX_STRANGERS_GPUS;
    for (const stranger of shuffled(candidates, random)) {
      if (room <= 0) break;
      if (drawn.has(stranger)) continue;
      const joining = [stranger, ...neighboursOf(stranger)].filter((fleet) => !drawn.has(fleet));
      const gpus = joining.reduce((sum, { idleGpus }) => sum + idleGpus, 0);
      // one larger than all the room is drawn alone, or it would never be
      if (gpus > room && draws > 0) continue;
      for (const each of joining) drawn.add(each);
      draws++;
      room -= gpus;
    }
    return random() * draws < DRAWS ? [...drawn] : [];
  }
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
