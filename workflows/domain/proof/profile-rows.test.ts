import { expect, test } from '@jest/globals';
import { drawSamples } from './draw-samples.ts';
import { openingsToBinary } from './openings-binary.ts';
import { MAX_OPENINGS_BYTES } from './plugin.ts';
import { seedOf } from './povw-hashes.ts';
import { chooseProfile, openingsBytesAtMost, rowFault, type ProfileRow } from './profile-rows.ts';
import { PROFILES } from './profiles.ts';
import { createProver } from './prover.ts';

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

const binding = {
  validatorNonce: '00'.repeat(32),
  configId: 'config',
  minerHotkey: 'miner',
  gpuUuid: 'a'.repeat(32),
  gpuType: 'h100',
  vramBytes: 80e9,
  transportPublicKey: '00'.repeat(32),
};

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

test.each(Object.values(PROFILES))('honest openings of $name are never more than they can be', (profile) => {
  const prover = createProver({ binding, profile });
  prover.commit();
  prover.walk('00'.repeat(32));
  for (let round = 0; round < 20; round++) {
    const samples = drawSamples(profile, new Uint8Array(32).fill(round));
    const bytes = openingsToBinary({ profile, seed: seedOf(binding), samples }, prover.open(samples));
    expect(bytes).not.toBeNull();
    expect(bytes?.length).toBeLessThanOrEqual(openingsBytesAtMost(profile));
  }
});

test('128 samples of an 80 GB card fit one request, as measured: 13 MB', () => {
  const bytes = openingsBytesAtMost(row());
  expect(bytes).toBeGreaterThan(13e6);
  expect(bytes).toBeLessThan(MAX_OPENINGS_BYTES);
});
