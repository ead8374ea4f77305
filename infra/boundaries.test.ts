import { execFile } from 'node:child_process';
import { cp, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from '@jest/globals';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '..');

// a copy: other suites read the sources while this one plants in them
let tree: string;
beforeEach(async () => {
  tree = await mkdtemp(join(tmpdir(), 'canopy-boundaries-'));
  const copied = [
    'workflows',
    'activities',
    'workers',
    'api',
    '.dependency-cruiser.cjs',
    'package.json',
    'tsconfig.json',
  ];
  await Promise.all(copied.map((name) => cp(join(ROOT, name), join(tree, name), { recursive: true })));
  await symlink(join(ROOT, 'node_modules'), join(tree, 'node_modules'));
});
afterEach(() => rm(tree, { recursive: true, force: true }));

/** Names of the rules that refuse the tree with this file in it. */
async function violations(path: string, source: string): Promise<string[]> {
  await writeFile(join(tree, path), source);
  const args = [
    join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs'),
    '--config',
    '.dependency-cruiser.cjs',
    '--output-type',
    'json',
    path,
  ];
  const { stdout } = await run(process.execPath, args, { cwd: tree, maxBuffer: 256 * 1024 ** 2 }).catch(
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
