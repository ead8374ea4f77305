import { createHash } from 'node:crypto';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { create as createTar } from 'tar';
import { id, IMAGE_ID } from '../testing.ts';
import { ArchiveCache } from './archive-cache.ts';
import type { ComputeDriver, CreateInput } from './compute-driver.ts';
import { createProcessDriver } from './process-driver.ts';

let dir: string;
let archive: { file: string; sha256: string; sizeBytes: number };
let downloads = 0;
const used: string[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'canopy-process-'));
  await mkdir(join(dir, 'image'));
  await writeFile(join(dir, 'image', 'model.txt'), 'weights');
  archive = await pack(join(dir, 'image'), ['model.txt']);
});
afterEach(async () => {
  for (const deploymentId of used.splice(0)) await driver('quiet').stop(deploymentId, 0);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function pack(cwd: string, files: string[]): Promise<typeof archive> {
  const file = join(dir, `${Math.random()}.tgz`);
  await createTar({ gzip: true, cwd, file }, files);
  const bytes = await readFile(file);
  return { file, sha256: createHash('sha256').update(bytes).digest('hex'), sizeBytes: bytes.length };
}

const PROGRAMS: Record<string, string> = {
  // Drains on SIGTERM: ends by itself with code 0.
  polite:
    "process.on('SIGTERM', () => { console.log('draining'); process.exit(0); }); console.log('up', process.env.CANOPY_BIND_PORT, require('fs').readFileSync('model.txt', 'utf8'), process.env.CANOPY_GRAVAL); setInterval(() => {}, 1000);",
  // Deaf, and with a deaf child in its group.
  deaf: "process.on('SIGTERM', () => {}); const { spawn } = require('child_process'); const child = spawn(process.execPath, ['-e', \"process.on('SIGTERM', () => {}); setInterval(() => {}, 1000)\"]); console.log('child', child.pid); setInterval(() => {}, 1000);",
  failing: "console.log('no'); process.exit(3);",
  quiet: '',
};

function driver(program: string, source = archive): ComputeDriver {
  const archives = new ArchiveCache({
    dir: join(dir, 'archives'),
    download: async () => {
      downloads++;
      return createReadStream(source.file);
    },
  });
  return createProcessDriver({
    workDir: join(dir, 'work'),
    entry: join(dir, `${program}.cjs`),
    archives,
    graval: '/opt/graval',
    pollMs: 10,
  });
}

async function input(n: number, program: string, over: Partial<typeof archive> = {}): Promise<CreateInput> {
  await writeFile(join(dir, `${program}.cjs`), PROGRAMS[program] ?? '');
  used.push(id(n));
  return {
    deploymentId: id(n),
    imageId: IMAGE_ID,
    ports: { primary: 31_000, logging: 31_001 },
    limits: { cpus: null, memoryGb: null, pids: 100 },
    artifact: {
      kind: 'archive',
      key: 'k',
      ...archive,
      ...over,
      command: [],
      workingDir: '/',
      env: { IMAGE_SAYS: 'hello' },
    },
    env: {
      CHUTES_LAUNCH_JWT: 'token',
      CHUTES_EXTERNAL_HOST: '127.0.0.1',
      CHUTES_PORT_PRIMARY: '31000',
      CHUTES_PORT_LOGGING: '31001',
      CHUTES_EXECUTION_CONTEXT: 'REMOTE',
      NVIDIA_VISIBLE_DEVICES: '',
      CHUTES_NVIDIA_DEVICES: '',
      CANOPY_MINER_SS58: 'm',
      CANOPY_VALIDATOR_SS58: 'v',
      CANOPY_DEVICES: '[]',
      CANOPY_COMMAND: '[]',
    },
  };
}

async function until(claim: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await claim())) {
    if (Date.now() > deadline) throw new Error('it did not become true');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test('starts once, is found by a new worker, drains within its grace and leaves nothing', async () => {
  const polite = driver('polite');
  const started = await polite.create(await input(1, 'polite'));
  const before = downloads;
  expect(await driver('polite').create(await input(1, 'polite'))).toEqual(started);
  expect(downloads).toBe(before);
  await until(async () => (await polite.logs(id(1), 1000)).includes('up 31000 weights /opt/graval'));
  const successor = driver('polite');
  expect(await successor.inspect(id(1))).toEqual({ state: 'running' });
  expect(await successor.list()).toMatchObject([{ deploymentId: id(1), state: 'running' }]);
  await successor.stop(id(1), 30);
  expect(await successor.inspect(id(1))).toEqual({ state: 'absent' });
  expect(await successor.list()).toEqual([]);
  await successor.stop(id(1), 30);
});

test('a start whose record was lost is found by its mark, not made again', async () => {
  const polite = driver('polite');
  const started = await polite.create(await input(2, 'polite'));
  await rm(join(dir, 'work/deployments', id(2), 'process.json'));
  expect(await driver('polite').create(await input(2, 'polite'))).toEqual(started);
});

test('the deaf are killed after the grace, with their children', async () => {
  const deaf = driver('deaf');
  const handle = await deaf.create(await input(3, 'deaf'));
  await until(async () => /child \d+/.test(await deaf.logs(id(3), 1000)));
  const childPid = Number(/child (\d+)/.exec(await deaf.logs(id(3), 1000))?.[1]);
  const startedAt = performance.now();
  await deaf.stop(id(3), 0.3);
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(290);
  expect(handle.driver === 'process' && isRunning(handle.pid)).toBe(false);
  await until(async () => !isRunning(childPid));
});

test('an end by itself is an exit with its code, and creating again does not hide it', async () => {
  const failing = driver('failing');
  await failing.create(await input(4, 'failing'));
  await until(
    async () => JSON.stringify(await failing.inspect(id(4))) === JSON.stringify({ state: 'exited', code: 3 }),
  );
  await failing.create(await input(4, 'failing'));
  expect(await failing.inspect(id(4))).toEqual({ state: 'exited', code: 3 });
});

test('a recycled pid is neither taken for ours nor harmed', async () => {
  const quiet = driver('quiet');
  const stranger = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { detached: true, stdio: 'ignore' });
  await once(stranger, 'spawn');
  const folder = join(dir, 'work/deployments', id(5));
  await mkdir(folder, { recursive: true });
  const bootId = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  await writeFile(join(folder, 'process.json'), JSON.stringify({ pid: stranger.pid, startTicks: '1', bootId }));
  expect(await quiet.inspect(id(5))).toEqual({ state: 'exited', code: null });
  await quiet.stop(id(5), 0);
  expect(isRunning(stranger.pid ?? 0)).toBe(true);
  stranger.kill('SIGKILL');
  await once(stranger, 'exit');
});

test('an archive that is not what was announced is not run, nor kept', async () => {
  await rm(join(dir, 'archives'), { recursive: true, force: true });
  await expect(driver('polite').create(await input(6, 'polite', { sha256: 'a'.repeat(64) }))).rejects.toThrow(
    /announced/,
  );
  await expect(driver('polite').create(await input(6, 'polite', { sizeBytes: 10 }))).rejects.toThrow(
    /larger than the 10 bytes/,
  );
  await expect(stat(join(dir, 'archives', 'a'.repeat(64)))).rejects.toThrow(/ENOENT/);
  expect(await driver('polite').inspect(id(6))).toEqual({ state: 'absent' });
});

test('an archive cannot reach out of its folder', async () => {
  const evil = join(dir, 'evil');
  await mkdir(evil);
  await symlink('/etc', join(evil, 'link'));
  const linked = await pack(evil, ['link']);
  await expect(driver('polite', linked).create(await input(7, 'polite', linked))).rejects.toThrow(/absolute/i);
  expect(await driver('polite').inspect(id(7))).toEqual({ state: 'absent' });
});
