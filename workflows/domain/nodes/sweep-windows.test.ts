import { expect, test } from '@jest/globals';
import { apartAfter, MAX_STRANGERS_GPUS, sweepWindows, type SweptFleet } from './sweep-windows.ts';

const HOUR = 3_600_000;
const fleet = (minerHotkey: string, over: Partial<SweptFleet> = {}): SweptFleet => ({
  minerHotkey,
  hosts: [`${minerHotkey}.example`],
  gpuTypes: ['h100'],
  idleGpus: 8,
  sinceSweepMs: null,
  apartFrom: [],
  ...over,
});
const windowsOf = (due: string[], fleets: SweptFleet[], random: () => number = () => 0): string[][] =>
  sweepWindows({
    due: due.map((minerHotkey) => ({
      minerHotkey,
      apartFrom: fleets.find((fleet) => fleet.minerHotkey === minerHotkey)?.apartFrom ?? [],
    })),
    fleets,
    random,
  }).map(({ minerHotkeys }) => minerHotkeys);

/** Always the same numbers, as even as any (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

test('strangers with GPUs of the same type share the window, others do not', () => {
  const fleets = [fleet('due'), fleet('same'), fleet('other', { gpuTypes: ['a100'] })];
  expect(windowsOf(['due'], fleets)).toEqual([['due', 'same']]);
});

test('whoever has verified nothing is swept alone and draws nobody in', () => {
  expect(windowsOf(['pretender'], [fleet('someone')])).toEqual([['pretender']]);
});

test('neighbours come along whatever they have, and so do those of strangers', () => {
  const fleets = [
    fleet('due', { hosts: ['one'] }),
    fleet('beside', { hosts: ['two', 'one'], gpuTypes: ['a100'] }),
    fleet('stranger', { hosts: ['three'] }),
    fleet('beside stranger', { hosts: ['three'], gpuTypes: ['a100'] }),
  ];
  expect(windowsOf(['due'], fleets)).toEqual([['due', 'beside', 'stranger', 'beside stranger']]);
});

test('nobody is drawn in within an hour of a sweep; the own moment always comes', () => {
  const since = (sinceSweepMs: number) => [
    fleet('due', { hosts: ['one'], sinceSweepMs: 0 }),
    fleet('beside', { hosts: ['one'], gpuTypes: ['a100'], sinceSweepMs }),
    fleet('stranger', { sinceSweepMs }),
  ];
  expect(windowsOf(['due'], since(HOUR))).toEqual([['due']]);
  expect(windowsOf(['due'], since(HOUR + 1))).toEqual([['due', 'beside', 'stranger']]);
});

test('nobody is in two windows of one look', () => {
  expect(windowsOf(['one', 'two'], [fleet('one'), fleet('two')])).toEqual([['one', 'two']]);
  const busy = [fleet('one', { idleGpus: 1000 }), fleet('three', { gpuTypes: ['a100'] }), fleet('two')];
  expect(windowsOf(['one', 'three'], busy)).toEqual([['one', 'two'], ['three']]);
});

test('strangers fill the room that there is, smaller ones where a larger does not fit; one that never fits comes alone', () => {
  const large = fleet('large', { idleGpus: MAX_STRANGERS_GPUS - 4 });
  const fits = fleet('fits', { idleGpus: 4 });
  expect(windowsOf(['due'], [fleet('due'), large, fleet('more'), fits, fleet('none')])).toEqual([
    ['due', 'large', 'fits'],
  ]);
  const huge = fleet('huge', { idleGpus: 10 * MAX_STRANGERS_GPUS });
  expect(windowsOf(['due'], [fleet('due'), huge, fits])).toEqual([['due', 'huge']]);
});

test('whoever was lost in company comes back in the same company, whatever types it has, and waits while one rests', () => {
  const wait = (sinceSweepMs: number) => [
    fleet('seen with', { gpuTypes: ['a100'], sinceSweepMs }),
    fleet('and with', { gpuTypes: ['a100'] }),
    fleet('lost', { apartFrom: ['seen with', 'and with', 'gone'] }),
  ];
  expect(windowsOf(['lost'], wait(600_001))).toEqual([['lost', 'seen with', 'and with']]);
  expect(windowsOf(['lost'], wait(600_000))).toEqual([]);
  const due = [{ minerHotkey: 'all lost', apartFrom: ['seen with'] }]; // nothing of it is verified
  expect(sweepWindows({ due, fleets: wait(600_001), random: () => 0 })).toEqual([
    { minerHotkey: 'all lost', minerHotkeys: ['all lost', 'seen with'] },
  ]);
});

test('a stranger that has to be seen with others brings them, or does not come', () => {
  const fleets = (sinceSweepMs: number) => [
    fleet('due'),
    fleet('stranger', { apartFrom: ['seen with', 'due'] }),
    fleet('seen with', { gpuTypes: ['a100'], sinceSweepMs }),
  ];
  expect(windowsOf(['due'], fleets(600_001))).toEqual([['due', 'stranger', 'seen with']]);
  expect(windowsOf(['due'], fleets(600_000))).toEqual([['due']]);
});

test('a window has strangers twice for each name that it would draw: the fewer, the more often', () => {
  const drawn = (names: number, share: number): number =>
    (
      windowsOf(
        ['due'],
        [fleet('due'), ...Array.from({ length: names }, (_, at) => fleet(`m${at}`))],
        () => share,
      )[0] ?? []
    ).length - 1;
  expect([drawn(1, 0.99), drawn(2, 0.99)]).toEqual([1, 2]);
  expect([drawn(8, 0.249), drawn(8, 0.251)]).toEqual([8, 0]);
  expect([drawn(500, 0.062), drawn(500, 0.063)]).toEqual([32, 0]); // 256 GPUs
});

test('every stranger is as likely as any other', () => {
  const fleets = Array.from({ length: 128 }, (_, at) => fleet(`m${at}`));
  const random = seeded(4);
  const drawn = new Map<string, number>();
  for (let look = 0; look < 20_000; look++)
    for (const hotkey of windowsOf(['m0'], fleets, random)[0]?.slice(1) ?? [])
      drawn.set(hotkey, (drawn.get(hotkey) ?? 0) + 1);
  expect(drawn.size).toBe(127);
  const times = [...drawn.values()];
  const mean = times.reduce((sum, each) => sum + each, 0) / 127;
  expect(Math.abs((mean / 20_000) * (127 / 2) - 1)).toBeLessThan(0.12);
  const chiSquared = times.reduce((sum, each) => sum + (each - mean) ** 2 / mean, 0);
  expect(chiSquared).toBeLessThan(190); // 126 degrees of freedom: above this once in ten thousand
});

test('whoever breaks again stays apart from those before; holding takes off who held as well', () => {
  expect(apartAfter('a', ['x'], { held: ['b'], broke: ['a', 'c'] })).toEqual(['b', 'c', 'x']);
  expect(apartAfter('a', ['b', 'x'], { held: ['a', 'b'], broke: ['x'] })).toEqual(['x']);
  expect(apartAfter('a', ['b'], { held: [], broke: ['b'] })).toEqual(['b']); // unclear: nothing changes
});

test('of two names for one card never more than one is verified once they have met, whoever of them is silent', () => {
  const random = seeded(7);
  const names = Array.from({ length: 24 }, (_, at) => `m${at}`);
  const miners = new Map(
    names.map((name) => [name, { nextAt: random() * 24, lastAt: -Infinity, apart: [] as string[], isVerified: true }]),
  );
  const [card, alias] = [miners.get('m0'), miners.get('m1')];
  let [met, bothAfter, aliasHours] = [false, 0, 0];
  for (let hour = 0; hour < 24 * 60; hour += 0.05) {
    const fleets = [...miners].flatMap(([name, { isVerified, lastAt, apart }]) =>
      isVerified ? [fleet(name, { sinceSweepMs: (hour - lastAt) * HOUR, apartFrom: apart })] : [],
    );
    const due = [...miners].filter(([, { nextAt }]) => nextAt <= hour);
    const looked = due.map(([minerHotkey, { apart }]) => ({ minerHotkey, apartFrom: apart }));
    for (const { minerHotkeys } of sweepWindows({ due: looked, fleets, random })) {
      const isShared = minerHotkeys.includes('m0') && minerHotkeys.includes('m1');
      const silent = isShared ? [random() < 0.5 ? 'm0' : 'm1'] : [];
      met ||= isShared;
      const broke = minerHotkeys.filter((name) => silent.includes(name) || random() < 0.001); // others fail as well
      const company = { held: minerHotkeys.filter((name) => !broke.includes(name)), broke };
      for (const name of minerHotkeys) {
        const miner = miners.get(name);
        if (!miner) continue;
        miner.isVerified = company.held.includes(name);
        miner.apart = apartAfter(name, miner.apart, company);
        Object.assign(miner, { lastAt: hour, nextAt: hour + (miner.isVerified ? -Math.log(1 - random()) * 24 : 1) });
      }
    }
    if (met && card?.isVerified && alias?.isVerified) bothAfter++;
    if (alias?.isVerified) aliasHours += 0.05;
  }
  expect({ met, bothAfter }).toEqual({ met: true, bothAfter: 0 });
  expect(aliasHours).toBeGreaterThan(24); // the two take turns
  for (const [name, { isVerified }] of miners)
    if (name !== 'm0' && name !== 'm1') expect({ name, isVerified }).toEqual({ name, isVerified: true });
});
