import { execFile } from 'node:child_process';
import { access, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { findOnPath } from '../dev/toolchain.ts';

const run = promisify(execFile);
export const SDK_VERSION = '0.6.9';

/** The reference SDK in a private environment, made once; returns its `chutes` program. It wants Python 3.11 to 3.13. */
export async function ensureSdk(toolsDir: string): Promise<string> {
  const dir = join(resolve(toolsDir), 'sdk-venv');
  const program = join(dir, 'bin', 'chutes');
  if (
    await access(join(dir, `chutes-${SDK_VERSION}`)).then(
      () => true,
      () => false,
    )
  )
    return program;
  const python = await suitablePython();
  // A virtual environment holds its own path: it is made where it stays, and the mark comes last.
  await rm(dir, { recursive: true, force: true });
  await run(python, ['-m', 'venv', dir]);
  await run(
    join(dir, 'bin', 'python'),
    ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `chutes==${SDK_VERSION}`],
    { maxBuffer: 64 * 1024 * 1024 },
  );
  await run('touch', [join(dir, `chutes-${SDK_VERSION}`)]);
  return program;
}

async function suitablePython(): Promise<string> {
  for (const name of ['python3.12', 'python3.13', 'python3.11', 'python3']) {
    const path = await findOnPath(name);
    if (!path) continue;
    const { stdout } = await run(path, ['-c', 'import sys; print("%d.%d" % sys.version_info[:2])']).catch(() => ({
      stdout: '',
    }));
    if (['3.11', '3.12', '3.13'].includes(stdout.trim())) return path;
  }
  throw new Error(
    'Missing: Python 3.11, 3.12 or 3.13 with venv, for the reference SDK. Debian: apt-get install python3-venv.',
  );
}
