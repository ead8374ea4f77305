// What `npm start` and `npm test` run, on whatever Node npm has (>= 20): brings the pinned packages, then hands over to the
// pinned Node 24. Plain JavaScript without dependencies, because nothing is installed yet.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname ?? new URL('.', import.meta.url).pathname, '../..');
const [command = 'start', ...args] = process.argv.slice(2);
const entry = { start: 'infra/dev/start.ts', test: 'infra/dev/test.ts', 'test:sdk': 'infra/dev/test-sdk.ts' }[command];
if (!entry) fail(`unknown command ${command}: start, test or test:sdk`);
if (Number(process.versions.node.split('.')[0]) < 20)
  fail(`Node ${process.versions.node} is too old: install Node >= 20 (with npm).`);

installPackages();
const node = findNode();
const child = spawn(node, [join(root, entry), ...args], { cwd: root, stdio: 'inherit', env: withPackagesOnPath(node) });
// A terminal's Ctrl-C reaches the child by itself; a signal to this process alone is handed on.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.on(signal, () => (process.stdin.isTTY && signal === 'SIGINT' ? null : child.kill(signal)));
child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)));

/** `npm ci` when the lock file is not the one that was installed. */
function installPackages() {
  const stamp = join(root, 'node_modules/.canopy-lock');
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  if (!args.includes('--json')) process.stderr.write('installing packages (npm ci) …\n');
  const npm = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ['npm'];
  const result = spawnSync(npm[0], [...npm.slice(1), 'ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (result.status !== 0) fail('npm ci failed: its message is above. Is the package registry reachable?');
  writeFileSync(stamp, lock);
}

/** The Node 24 that came as a package; a Node >= 24 that runs us serves where no such package exists. */
function findNode() {
  const packaged = join(root, `node_modules/node-${process.platform}-${process.arch}/bin/node`);
  if (existsSync(packaged)) return packaged;
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath;
  fail(`No packaged Node 24 for ${process.platform}-${process.arch}: install Node >= 24 and run this again.`);
}

function withPackagesOnPath(node) {
  return { ...process.env, PATH: `${join(node, '..')}:${join(root, 'node_modules/.bin')}:${process.env.PATH ?? ''}` };
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
