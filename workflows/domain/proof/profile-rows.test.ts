import { expect, test } from '@jest/globals';
import { MAX_OPENINGS_BYTES } from './plugin.ts';
import { chooseProfile, openingsBytesAtMost, rowFault, type ProfileRow } from './profile-rows.ts';

const measured = {
  card: 'NVIDIA H100',
  driver: '580',
  date: '2026-11-21',
  fillMs: 3000,
  walkStepUs: 90,
  int8Tops: 1000,
  copyGbps: 3000,
  hostGap: 40,
};
const row = (over: Partial<ProfileRow> = {}): ProfileRow => ({
  gpu: 'h100',
  n: 16_384,
  k: 256,
  blocks: 284,
  steps: 150_000,
  fillSamples: 128,
  walkSamples: 128,
  fillLimitMs: 10_000,
  walkLimitMs: 20_000,
  measured,
  ...over,
});

test.each([
  ['a measured row', row(), false, true],
  ['an unmeasured row where they are refused', row({ measured: null }), false, false],
  ['an unmeasured row where they are allowed', row({ measured: null }), true, true],
  ['no row', row({ gpu: 'a100' }), true, false],
])('%s', (_, only, allowsUnmeasured, isUsable) => {
  const choice = chooseProfile([only], 'h100', { allowsUnmeasured });
  expect(choice.kind).toBe(isUsable ? 'usable' : 'unusable');
  if (choice.kind === 'unusable') expect(choice.detail).toContain('npm run calibrate:gpu -- --type h100');
  else
    expect(choice.profile).toEqual({
      name: 'h100',
      n: 16_384,
      k: 256,
      blocks: 284,
      steps: 150_000,
      fillSamples: 128,
      walkSamples: 128,
      fillLimitMs: 10_000,
      walkLimitMs: 20_000,
    });
});

test.each<[string, Partial<ProfileRow>, keyof ProfileRow | null]>([
  ['a sound row', {}, null],
  ['a type nobody pays for', { gpu: 'voodoo2' }, 'gpu'],
  ['a type in another spelling: it would never be found', { gpu: 'H100' }, 'gpu'],
  ['sums past 32 bits', { n: 131_073, blocks: 5 }, 'n'],
  ['one walk sample: only one end of the walk would be tied', { walkSamples: 1 }, 'n'],
  ['95 % of 80 GB filled', { blocks: 284 }, null],
  ['a block less', { blocks: 283 }, 'blocks'],
  ['a walk that reaches every block once', { steps: 284 }, null],
  ['a walk that never reaches the last block', { steps: 283 }, 'steps'],
  ['openings larger than one request', { fillSamples: 256 }, 'walkSamples'],
])('%s', (_, over, field) => expect(rowFault(row(over))?.field ?? null).toBe(field));

test('128 samples of an 80 GB card fit one request, as measured: 13 MB', () => {
  const bytes = openingsBytesAtMost(row());
  expect(bytes).toBeGreaterThan(13e6);
  expect(bytes).toBeLessThan(MAX_OPENINGS_BYTES);
});
