/** Writes `gpu/test/vectors/*.json` from the TypeScript definition. A change of these files is a new version of the proof. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PROFILES } from '../workflows/domain/proof/profiles.ts';
import { proofVectors } from '../workflows/domain/proof/proof-vectors.ts';

const dir = join(import.meta.dirname, '../gpu/test/vectors');
await mkdir(dir, { recursive: true });
for (const name of ['tiny-a', 'tiny-b'] as const) {
  await writeFile(join(dir, `${name}.json`), `${JSON.stringify(proofVectors(PROFILES[name]), null, 1)}\n`);
  console.log(`gpu/test/vectors/${name}.json`);
}
