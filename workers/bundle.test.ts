import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { workflowBundle } from './bundle.ts';

let cache: string;
beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), 'canopy-bundles-'));
});
afterAll(() => rm(cache, { recursive: true, force: true }));
const entry = (name: string): string => join(import.meta.dirname, '../workflows', name);

test.each(['validator.ts', 'miner.ts'])('%s bundles for the sandbox, once per content', async (name) => {
  const first = await workflowBundle(entry(name), cache);
  expect((await readFile(first.codePath, 'utf8')).length).toBeGreaterThan(10_000);
  const files = await readdir(cache);
  expect(await workflowBundle(entry(name), cache)).toEqual(first);
  expect(await readdir(cache)).toEqual(files);
});

test('a workflow that reaches for a Node module is refused', async () => {
  const bad = join(cache, 'bad.ts');
  await writeFile(
    bad,
    `import { readFileSync } from 'node:fs';\nexport async function bad() { return readFileSync('/etc/passwd', 'utf8'); }\n`,
  );
  await expect(workflowBundle(bad, cache)).rejects.toThrow(/fs/);
});
