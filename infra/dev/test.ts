import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { installJava } from './install-java.ts';

const ROOT = join(import.meta.dirname, '../..');

const flags = new Command('npm test --')
  .description('Runs every check: types, lint, import boundaries, format, unit and integration tests, end to end.')
  .addOption(
    new Option('--only <parts...>', 'run only these').choices([
      'types',
      'lint',
      'boundaries',
      'format',
      'jest',
      'e2e',
      'native',
    ]),
  )
  .argument('[jest arguments...]', 'passed to jest (with --only jest), e.g. a path')
  .allowUnknownOption()
  .parse();
const { only } = flags.opts<{ only?: string[] }>();
/** `native` compiles and fuzzes the C++ of gpu/: it wants cmake and g++, and runs when asked for. */
const wants = (part: string): boolean => (only === undefined ? part !== 'native' : only.includes(part));

interface Tally {
  passed: number;
  failed: number;
}
const total: Tally = { passed: 0, failed: 0 };
const failures: string[] = [];

if (wants('jest')) await installJava();
await check('types', ['tsc', '-p', '.']);
await check('lint', ['oxlint', '--type-aware', '--quiet']);
await check('boundaries', [
  'depcruise',
  '--config',
  '.dependency-cruiser.cjs',
  'workflows',
  'activities',
  'workers',
  'api',
  'infra',
  'examples',
  'bench',
]);
await check('format', ['oxfmt', '--check', '.']);
if (wants('jest')) await jest('jest', ['--config', 'jest.config.mjs', ...flags.args]);
if (wants('native')) await jest('native', ['--config', 'jest.native.config.mjs']);
if (wants('e2e')) await jest('e2e', ['--config', 'jest.e2e.config.mjs', '--runInBand']);

for (const failure of failures) process.stdout.write(`failed: ${failure}\n`);
process.stdout.write(`${total.passed} passed, ${total.failed} failed\n`);
process.exitCode = total.failed > 0 ? 1 : 0;

/** One tool that says yes or no by its exit status. */
async function check(part: string, [command = '', ...args]: string[]): Promise<void> {
  if (!wants(part)) return;
  const startedAt = performance.now();
  const code = await run(command, args);
  process.stdout.write(`${code === 0 ? '✔' : '✖'} ${part} ${((performance.now() - startedAt) / 1000).toFixed(1)} s\n`);
  count(part, code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 });
}

/** A jest run counts its tests; one that ran none, or ended without a report, failed. */
async function jest(part: string, args: string[]): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'canopy-jest-'));
  const report = join(dir, 'report.json');
  const code = await run(process.execPath, [
    '--experimental-vm-modules',
    '--disable-warning=ExperimentalWarning',
    join(ROOT, 'node_modules/jest/bin/jest.js'),
    ...args,
    '--json',
    '--outputFile',
    report,
  ]);
  const result = await readFile(report, 'utf8').then(
    (text) => JSON.parse(text) as { numPassedTests: number; numFailedTests: number; numFailedTestSuites: number },
    () => null,
  );
  await rm(dir, { recursive: true, force: true });
  const passed = result?.numPassedTests ?? 0;
  const failed = Math.max(result?.numFailedTests ?? 0, code === 0 && passed > 0 ? 0 : 1);
  count(part, { passed, failed });
}

function count(part: string, { passed, failed }: Tally): void {
  total.passed += passed;
  total.failed += failed;
  if (failed > 0) failures.push(`${part} (${failed})`);
}

function run(command: string, args: string[]): Promise<number> {
  return new Promise((resolve) => {
    // jest writes the JSON report to stdout too when asked for it: only its human text (stderr) is wanted.
    const child = spawn(command, args, {
      cwd: ROOT,
      stdio: ['ignore', args.includes('--json') ? 'ignore' : 'inherit', 'inherit'],
    });
    child.once('error', () => resolve(127));
    child.once('exit', (code) => resolve(code ?? 1));
  });
}
