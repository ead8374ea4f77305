import { execFile } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, test } from '@jest/globals';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '..');
const planted: string[] = [];
afterEach(async () => {
  await Promise.all(planted.splice(0).map((file) => rm(file, { force: true })));
});

/** Names of the rules that refuse the tree with this file in it. */
async function violations(path: string, source: string): Promise<string[]> {
  const file = join(ROOT, path);
  planted.push(file);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, source);
  const args = [
    join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs'),
    '--config',
    '.dependency-cruiser.cjs',
    '--output-type',
    'json',
    path,
  ];
  const { stdout } = await run(process.execPath, args, { cwd: ROOT, maxBuffer: 256 * 1024 ** 2 }).catch(
    (err: { stdout: string }) => err,
  );
  const { summary } = JSON.parse(stdout) as { summary: { violations: { from: string; rule: { name: string } }[] } };
  return summary.violations.filter((each) => each.from === path).map((each) => each.rule.name);
}

test.each([
  [
    'a miner activity reads a validator store',
    'activities/miner/planted-violation.ts',
    "import '../validator/events/event-outbox.ts';\n",
    'miner-imports-no-other-program',
  ],
  [
    'the validator API imports the miner',
    'api/validator/planted-violation.ts',
    "import '../../workers/config/miner.ts';\n",
    'validator-imports-no-other-program',
  ],
  [
    'the instance runtime imports validator code',
    'api/instance/planted-violation.ts',
    "import '../validator/auth/auth.ts';\n",
    'agent-and-runtime-stand-alone',
  ],
  [
    'a rule does I/O',
    'workflows/domain/planted-violation.ts',
    "import { readFile } from 'node:fs/promises';\nexport { readFile };\n",
    'domain-imports-only-itself',
  ],
  [
    'a workflow imports an activity, not its type',
    'workflows/validator/planted-violation.ts',
    "import { connectDatabase } from '../../activities/clients/postgres.ts';\nexport { connectDatabase };\n",
    'workflows-stay-in-the-sandbox',
  ],
  [
    'an activity imports a route',
    'activities/clients/planted-violation.ts',
    "import '../../api/http/errors.ts';\n",
    'activities-act',
  ],
])('%s: refused', async (_, path, source, rule) => {
  expect(await violations(path, source)).toContain(rule);
});

test('a workflow may import the types of its activities', async () => {
  const source =
    "import type { DatabaseOptions } from '../../activities/clients/postgres.ts';\nexport type Planted = DatabaseOptions;\n";
  expect(await violations('workflows/validator/planted-violation.ts', source)).toEqual([]);
});
