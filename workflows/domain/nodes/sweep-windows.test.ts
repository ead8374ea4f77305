import { expect, test } from '@jest/globals';
import { generatorOf } from '../../../workers/testing/generator.ts';
import { MAX_STRANGERS_GPUS, MAX_WITNESSES, sweepWindows, type SweptFleet } from './sweep-windows.ts';

const HOUR = 3_600_000;
const fleet = (minerHotkey: string, over: Partial<SweptFleet> = {}): SweptFleet => ({
  minerHotkey,
  hosts: [`${minerHotkey}.example`],
  gpuTypes: ['h100'],
  idleGpus: 8,
  sinceSweepMs: null,
  ...over,
});
const windowsOf = (due: string[], fleets: SweptFleet[], random: () => number = () => 0): string[][] =>
  sweepWindows({ due: due.map((minerHotkey) => ({ minerHotkey, apartFrom: [] })), fleets, random }).map(
    ({ minerHotkeys }) => minerHotkeys,
  );

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

const meeting = (apartFrom: string[], fleets: SweptFleet[]): string[] | undefined =>
  sweepWindows({ due: [{ minerHotkey: 'due', apartFrom }], fleets, random: () => 0 })[0]?.minerHotkeys;

test('whoever broke beside others meets these, whatever types they have, and no strangers', () => {
  const fleets = [fleet('due'), fleet('a', { gpuTypes: ['a100'] }), fleet('b'), fleet('stranger')];
  expect(meeting(['b', 'a', 'gone'], fleets)).toEqual(['due', 'b', 'a']);
  expect(meeting(['gone'], fleets)).toEqual(['due', 'a', 'b', 'stranger'].filter((each) => each !== 'a'));
  expect(meeting(['b'], fleets.slice(1))).toEqual(['due', 'b']); // nothing of its own is verified
});

test('of many it meets the first few, and no one within an hour of its sweep', () => {
  const names = Array.from({ length: 12 }, (_, at) => `m${at}`);
  const fleets = names.map((name, at) => fleet(name, { sinceSweepMs: at === 0 ? HOUR : null }));
  expect(meeting(names, fleets)).toEqual(['due', ...names.slice(1, 1 + MAX_WITNESSES)]);
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
  const random = generatorOf(4);
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

test('a thousand names that are due at once are no work', () => {
  const names = Array.from({ length: 1000 }, (_, at) => `m${at}`);
  const random = generatorOf(1);
  const windows = windowsOf(
    names,
    names.map((name) => fleet(name)),
    random,
  );
  expect(windows.flat().toSorted()).toEqual(names.toSorted());
});
