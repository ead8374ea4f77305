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
export interface DueMiner {
  minerHotkey: string;
  /** names that it has not held beside since one of the two broke beside the other, most often first (`WindowMember`) */
  apartFrom: readonly string[];
}
export interface SweepWindow {
  /** whose moment has come */
  minerHotkey: string;
  /** it first, then its company */
  minerHotkeys: string[];
}

/** What a window came to for one miner; it is no member when that could not be decided. */
export interface WindowMember {
  minerHotkey: string;
  /** that were in the window */
  gpus: number;
  /** all of them are verified; false: it broke, some were lost or failed */
  held: boolean;
}

/** Chance makes a pair once in a while, and hardly ever the same one thrice. */
export const SUSPECT_TIMES = 3;
/** So many GPUs of strangers join a window: together they are judged in minutes. */
export const MAX_STRANGERS_GPUS = 256;
/** So many of those that it was apart from come to a window at most. */
export const MAX_WITNESSES = 8;
/** Times a miner is drawn into the windows of strangers for each moment of its own. */
const DRAWS = 2;
/** Whoever announces the host of another, or fails beside it, does not have it swept all day. */
const REST_MS = 3_600_000;

/**
 * Who is swept with whom. A miner whose moment has come takes along those with GPUs on the same hosts, and now and then as many
 * strangers with GPUs of a type of its own as there is room for, drawn at random, each with its neighbours: one card behind two names
 * and two addresses shows only where both names are in one window, and nobody can tell who will be. Seldom and many rather
 * than often and few: a name meets the more others for each time it is swept (`bench/sweep-windows.ts`). Whoever broke beside others,
 * or they beside it, meets some of these again instead: chance ends such a pair soon, one card behind both never does.
 *
 * Nobody is drawn in more than once an hour, nor into two windows of one look, and only for GPUs that are verified. `random` is
 * uniform in [0, 1).
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
  const byHotkey = new Map(fleets.map((fleet) => [fleet.minerHotkey, fleet]));
  const byHost = fleetsBy(fleets, ({ hosts }) => hosts);
  const byType = fleetsBy(fleets, ({ gpuTypes }) => gpuTypes);
  const taken = new Set<string>();
  const windows: SweepWindow[] = [];
  for (const { minerHotkey, apartFrom } of due) {
    if (taken.has(minerHotkey)) continue;
    const minerHotkeys = [minerHotkey];
    taken.add(minerHotkey);
    const join = (joining: readonly SweptFleet[]): void => {
      for (const { minerHotkey: hotkey } of joining) {
        taken.add(hotkey);
        minerHotkeys.push(hotkey);
      }
    };
    const own = byHotkey.get(minerHotkey);
    if (own) join(neighboursOf(own));
    const witnesses = apartFrom.flatMap((hotkey) => byHotkey.get(hotkey) ?? []);
    join(witnesses.filter(isFree).slice(0, MAX_WITNESSES));
    if (own && witnesses.length === 0) join(strangersOf(own));
    windows.push({ minerHotkey, minerHotkeys });
  }
  return windows;

  function isFree({ minerHotkey, sinceSweepMs }: SweptFleet): boolean {
    return !taken.has(minerHotkey) && (sinceSweepMs === null || sinceSweepMs > REST_MS);
  }

  function neighboursOf(fleet: SweptFleet): SweptFleet[] {
    const beside = new Set(fleet.hosts.flatMap((host) => byHost.get(host) ?? []));
    beside.delete(fleet);
    return [...beside].filter(isFree);
  }

  function strangersOf({ gpuTypes }: SweptFleet): SweptFleet[] {
    const candidates = new Set(gpuTypes.flatMap((type) => byType.get(type) ?? []).filter(isFree));
    const drawn = new Set<SweptFleet>();
    let draws = 0;
    let room = MAX_STRANGERS_GPUS;
    for (const stranger of shuffled([...candidates], random)) {
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

function fleetsBy(
  fleets: readonly SweptFleet[],
  keysOf: (fleet: SweptFleet) => readonly string[],
): Map<string, SweptFleet[]> {
  const found = new Map<string, SweptFleet[]>();
  for (const fleet of fleets)
    for (const key of keysOf(fleet)) {
      const those = found.get(key);
      if (those) those.push(fleet);
      else found.set(key, [fleet]);
    }
  return found;
}

/** One after the other as they are asked for, every order as likely as any other (Fisher and Yates). */
function* shuffled<Item>(items: Item[], random: () => number): Generator<Item> {
  for (let left = items.length; left > 0; left--) {
    const at = Math.floor(random() * left);
    const [item, last] = [items[at], items[left - 1]];
    if (item === undefined || last === undefined) return;
    yield item;
    items[at] = last;
  }
}
