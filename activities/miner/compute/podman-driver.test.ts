import { execFile, spawnSync } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { id, IMAGE_ID } from '../testing.ts';
import type { ComputeDriver, CreateInput } from './compute-driver.ts';
import { createPodmanDriver, imageOf } from './podman-driver.ts';

const runWith = promisify(execFile);
const run = (command: string, args: string[]) => runWith(command, args, { env: process.env });
const hasPodman = spawnSync('podman', ['--version']).status === 0 && spawnSync('runc', ['--version']).status === 0;

test.each([
  ['127.0.0.1:5000/u/n:t', undefined, '127.0.0.1:5000/u/n'],
  ['u/n:t', 'registry:5000', 'registry:5000/u/n'],
  ['localhost/n', 'registry:5000', 'localhost/n'],
])('an image is named by what was built: %s', (reference, registry, expected) => {
  const digest = `sha256:${'a'.repeat(64)}`;
  expect(imageOf(reference, digest, registry)).toBe(`${expected}@${digest}`);
  expect(() => imageOf(reference, 'latest', registry)).toThrow(/SHA-256/);
});

// Plays the runtime: says what it sees, writes where it may, drains on SIGTERM.
const RUNTIME = `
import { createServer } from 'node:http';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
const tries = (path) => { try { writeFileSync(path, 'x'); return true; } catch { return false; } };
const { CHUTES_LAUNCH_JWT: token, CANOPY_APP_DIR: appDir, CANOPY_BIND_PORT: port, CANOPY_BIND_HOST: host, CANOPY_GRAVAL: graval } = process.env;
const seen = { token, appDir, fromImage: readFileSync('/app/model.txt', 'utf8'), writesApp: tries('/app/code.py'), writesRoot: tries('/root.txt'), writesTmp: tries('/tmp/t'), writesCache: tries('/cache/c'), hasEntry: existsSync('/canopy/node'), graval: readFileSync(graval, 'utf8'), writesGraval: tries(graval) };
process.on('SIGTERM', () => { console.log('draining'); process.exit(0); });
createServer((req, res) => res.end(JSON.stringify(seen))).listen(Number(port), host, () => console.log('up'));
`;

test('a podman that cannot be asked is an error, never an absent container', async () => {
  const driver = createPodmanDriver({
    workDir: tmpdir(),
    minerHotkey: 'hk',
    runtimeDir: '/canopy',
    podman: '/nowhere/podman',
  });
  await expect(driver.inspect(id(1))).rejects.toThrow('ENOENT');
  await expect(driver.list()).rejects.toThrow('ENOENT');
});

test('a container gets the GPUs of its deployment by uuid, and nothing that is not one', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'canopy-podman-'));
  const podman = join(dir, 'podman');
  // Says that nothing exists, and remembers what it was asked to run.
  await writeFile(
    podman,
    `#!/bin/sh\n[ "$2" = exists ] && exit 1\n[ "$1" = run ] && echo "$@" > ${dir}/asked\nexit 0\n`,
    {
      mode: 0o755,
    },
  );
  const driver = createPodmanDriver({ workDir: dir, minerHotkey: 'hk', runtimeDir: '/canopy', gpus: 'cdi', podman });
  const uuids = ['GPU-8f4b2d3c-1a2b-3c4d-5e6f-0123456789ab', 'GPU-00000000-1a2b-3c4d-5e6f-0123456789ab'];
  const create = (visible: string) =>
    driver.create({
      deploymentId: id(9),
      imageId: IMAGE_ID,
      artifact: {
        kind: 'oci',
        reference: 'localhost/i:1',
        digest: `sha256:${'0'.repeat(64)}`,
        sizeBytes: 1,
        command: [],
        workingDir: '/app',
        env: {},
      },
      ports: { primary: 1, logging: 2 },
      limits: { cpus: null, memoryGb: null, pids: 10 },
      env: {
        CHUTES_LAUNCH_JWT: 't',
        CHUTES_EXTERNAL_HOST: 'h',
        CHUTES_PORT_PRIMARY: '1',
        CHUTES_PORT_LOGGING: '2',
        CHUTES_EXECUTION_CONTEXT: 'REMOTE',
        NVIDIA_VISIBLE_DEVICES: visible,
        CHUTES_NVIDIA_DEVICES: visible,
        CANOPY_MINER_SS58: 'm',
        CANOPY_VALIDATOR_SS58: 'v',
        CANOPY_DEVICES: '[]',
        CANOPY_COMMAND: '[]',
      },
    });
  await create(uuids.join(','));
  const asked = await readFile(join(dir, 'asked'), 'utf8');
  for (const uuid of uuids) expect(asked).toContain(`--device nvidia.com/gpu=${uuid} `);
  await expect(create('all')).rejects.toThrow('is not the uuid of a GPU');
  await rm(dir, { recursive: true });
});

/** Only where containers work: CI installs podman and runc. */
const describeContainers = (): void => {
  let dir: string;
  let driver: ComputeDriver;
  let artifact: CreateInput['artifact'];

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'canopy-podman-'));
    const storage = `[storage]\ndriver = "overlay"\ngraphroot = "${dir}/graph"\nrunroot = "${dir}/run"\n`;
    const engine =
      '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n';
    await writeFile(join(dir, 'storage.conf'), storage);
    await writeFile(join(dir, 'containers.conf'), engine);
    process.env.CONTAINERS_STORAGE_CONF = join(dir, 'storage.conf');
    process.env.CONTAINERS_CONF = join(dir, 'containers.conf');
    await mkdir(join(dir, 'runtime/app/api/instance'), { recursive: true });
    await copyFile(process.execPath, join(dir, 'runtime/node'));
    await writeFile(join(dir, 'runtime/app/api/instance/main.ts'), RUNTIME);
    await writeFile(join(dir, 'runtime/app/package.json'), '{"type":"module"}');
    artifact = await buildImage(join(dir, 'rootfs'));
    await writeFile(join(dir, 'graval'), 'a program');
    driver = createPodmanDriver({
      workDir: join(dir, 'work'),
      minerHotkey: 'miner',
      runtimeDir: join(dir, 'runtime'),
      graval: join(dir, 'graval'),
    });
  }, 120_000);

  afterAll(async () => {
    for (const n of [1, 2]) await driver.stop(id(n), 0);
    await run('podman', ['rmi', '--all', '--force']);
    spawnSync('umount', [join(dir, 'graph/overlay')]); // the storage driver's own mount
    await rm(dir, { recursive: true, force: true });
  }, 60_000);

  /** What the mounted Node needs of an image is its C library. */
  async function buildImage(rootfs: string): Promise<CreateInput['artifact']> {
    const { stdout } = await run('ldd', [process.execPath]);
    const libraries = [...stdout.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? '');
    for (const library of libraries) {
      await mkdir(join(rootfs, dirname(library)), { recursive: true });
      await copyFile(library, join(rootfs, library));
    }
    for (const folder of ['app', 'tmp', 'canopy', 'cache']) await mkdir(join(rootfs, folder), { recursive: true });
    await writeFile(join(rootfs, 'app/model.txt'), 'weights');
    await run('tar', ['-C', rootfs, '-cf', `${rootfs}.tar`, '.']);
    await run('podman', ['import', `${rootfs}.tar`, 'localhost/canopy-test:1']);
    const digest = (
      await run('podman', ['image', 'inspect', '--format', '{{.Digest}}', 'localhost/canopy-test:1'])
    ).stdout.trim();
    return {
      kind: 'oci',
      reference: 'localhost/canopy-test:1',
      digest,
      sizeBytes: 1,
      command: [],
      workingDir: '/app',
      env: {},
    };
  }

  const input = (n: number, port: number): CreateInput => ({
    deploymentId: id(n),
    imageId: IMAGE_ID,
    artifact,
    ports: { primary: port, logging: port + 1 },
    limits: { cpus: 1, memoryGb: 1, pids: 200 },
    env: {
      CHUTES_LAUNCH_JWT: 'launch-token',
      CHUTES_EXTERNAL_HOST: '127.0.0.1',
      CHUTES_PORT_PRIMARY: String(port),
      CHUTES_PORT_LOGGING: String(port + 1),
      CHUTES_EXECUTION_CONTEXT: 'REMOTE',
      NVIDIA_VISIBLE_DEVICES: '',
      CHUTES_NVIDIA_DEVICES: '',
      CANOPY_MINER_SS58: 'm',
      CANOPY_VALIDATOR_SS58: 'v',
      CANOPY_DEVICES: '[]',
      CANOPY_COMMAND: '[]',
    },
  });

  async function answer(port: number): Promise<Record<string, unknown>> {
    for (let tries = 0; ; tries++) {
      try {
        return await new Promise((resolve, reject) => {
          get(`http://127.0.0.1:${port}/`, (res) => {
            let text = '';
            res.on('data', (chunk: Buffer) => (text += chunk.toString()));
            res.on('end', () => resolve(JSON.parse(text) as Record<string, unknown>));
          }).on('error', reject);
        });
      } catch (err) {
        if (tries > 100) throw err;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  test('runs the injected runtime in the image, closed but for its own folders; found again, drained, gone', async () => {
    const handle = await driver.create(input(1, 30_910));
    expect(await driver.create(input(1, 30_910))).toEqual(handle);
    expect(await answer(30_910)).toEqual({
      token: 'launch-token',
      appDir: '/app',
      fromImage: 'weights',
      writesApp: true,
      writesRoot: false,
      writesTmp: true,
      writesCache: true,
      hasEntry: true,
      graval: 'a program',
      writesGraval: false,
    });
    const commandLines = (await run('ps', ['-eo', 'args'])).stdout;
    expect(commandLines).not.toContain('launch-token');
    expect(await driver.list()).toMatchObject([{ deploymentId: id(1), state: 'running' }]);
    expect(await driver.inspect(id(1))).toEqual({ state: 'running' });
    await driver.stop(id(1), 10);
    await driver.stop(id(1), 10);
    expect(await driver.inspect(id(1))).toEqual({ state: 'absent' });
    expect(await driver.list()).toEqual([]);
  }, 60_000);

  test('a container that cannot start leaves nothing in the way', async () => {
    await driver.create(input(1, 30_910));
    await expect(driver.create(input(2, 30_910))).rejects.toThrow(/podman ended with/);
    expect(await driver.inspect(id(2))).toEqual({ state: 'absent' });
    await driver.create(input(2, 30_914));
    expect(await driver.inspect(id(2))).toEqual({ state: 'running' });
  }, 60_000);
};
if (hasPodman) {
  describe('with podman', () => {
    describeContainers();
  });
}
