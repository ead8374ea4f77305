import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { findOnPath } from './toolchain.ts';

const run = promisify(execFile);

/** The time-skipping tests need Java and Maven. Installs them where we may (root on Debian), else says how to get them. */
export async function installJava(): Promise<void> {
  const missing = [];
  if (!(await findOnPath('java'))) missing.push('default-jre-headless');
  if (!(await findOnPath('mvn'))) missing.push('maven');
  if (missing.length === 0) return;
  if (process.getuid?.() !== 0 || !(await findOnPath('apt-get'))) {
    throw new Error(
      `Missing for the time-skipping tests: java (>= 17) and mvn. On Debian: sudo apt-get install ${missing.join(' ')}`,
    );
  }
  process.stderr.write(`installing ${missing.join(' ')} …\n`);
  await run('apt-get', ['update', '-q']);
  await run('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...missing], { maxBuffer: 64 * 1024 ** 2 });
}
