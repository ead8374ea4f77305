/**
 * `node infra/docker/write-env.ts [DIR]`: draws every secret of `.env.example`, and writes `.env` (readable by its owner
 * alone) and `.canopy/compose/metagraph.json`, which lists the two hotkeys. Leaves an existing `.env` alone: exit 1.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { loadHotkey } from '../../activities/clients/hotkey.ts';

export async function writeEnv(dir: string): Promise<void> {
  const example = await readFile(join(import.meta.dirname, '.env.example'), 'utf8');
  const names = [...example.matchAll(/^([A-Z0-9_]+)=$/gm)].map(([, name]) => name ?? '');
  const values = new Map(names.map((name) => [name, randomBytes(32).toString('hex')]));
  const members = [];
  for (const [uid, owner] of ['VALIDATOR', 'MINER'].entries()) {
    const { address } = await loadHotkey(values.get(`${owner}_SEED`) ?? '');
    const { address: coldkey } = await loadHotkey(randomBytes(32).toString('hex')); // nothing here is signed by it
    values.set(`${owner}_HOTKEY`, address);
    members.push({ hotkey: address, coldkey, uid, stake_rao: '1000000000000' });
  }
  const text = example.replaceAll(/^([A-Z0-9_]+)=$/gm, (_, name: string) => `${name}=${values.get(name)}`);
  await writeFile(join(dir, '.env'), text, { mode: 0o600, flag: 'wx' });
  const config = join(dir, '.canopy/compose');
  await mkdir(config, { recursive: true });
  await writeFile(join(config, 'metagraph.json'), `${JSON.stringify(members, null, 2)}\n`);
}

if (import.meta.main) {
  try {
    await writeEnv(resolve(process.argv[2] ?? '.'));
    process.stdout.write('.env and .canopy/compose/metagraph.json are written\n');
  } catch (err) {
    const exists = (err as NodeJS.ErrnoException).code === 'EEXIST';
    process.stderr.write(exists ? '.env is there already: its keys stay\n' : `${(err as Error).message}\n`);
    process.exitCode = 1;
  }
}
