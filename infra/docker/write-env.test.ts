import { expect, test } from '@jest/globals';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadHotkey } from '../../activities/clients/hotkey.ts';
import { writeEnv } from './write-env.ts';

test('draws what the example lists, for its owner alone, and never draws over keys that are there', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'canopy-env-'));
  try {
    await writeEnv(dir);
    const text = await readFile(join(dir, '.env'), 'utf8');
    const values = Object.fromEntries(
      [...text.matchAll(/^([A-Z0-9_]+)=(.*)$/gm)].map(([, name, value]) => [name, value]),
    );
    expect(Object.entries(values).filter(([, value]) => value === '')).toEqual([]);
    expect((await stat(join(dir, '.env'))).mode & 0o777).toBe(0o600);
    const members = JSON.parse(await readFile(join(dir, '.canopy/compose/metagraph.json'), 'utf8')) as {
      hotkey: string;
    }[];
    const addresses = [values.VALIDATOR_SEED, values.MINER_SEED].map(
      async (seed) => (await loadHotkey(seed ?? '')).address,
    );
    expect(await Promise.all(addresses)).toEqual([values.VALIDATOR_HOTKEY, values.MINER_HOTKEY]);
    expect(members.map(({ hotkey }) => hotkey)).toEqual([values.VALIDATOR_HOTKEY, values.MINER_HOTKEY]);
    await expect(writeEnv(dir)).rejects.toMatchObject({ code: 'EEXIST' });
    expect(await readFile(join(dir, '.env'), 'utf8')).toBe(text);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
