import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { writeContainerConfig } from '../../dev/base-images/container-config.ts';
import { buildGpu } from '../../dev/build-gpu.ts';
import { Rootfs } from '../../dev/base-images/rootfs.ts';
import { findOnPath } from '../../dev/toolchain.ts';
import { ignoreFileOfThisRepository } from '../ignore-file.ts';

const exec = promisify(execFile);
const ROOT = join(import.meta.dirname, '../../..');
const BASE = 'localhost/canopy-base';
export const IMAGE = 'localhost/canopy';
/** What the Dockerfile and docker-compose.yml call, beside Node. */
const PROGRAMS = ['sh', 'env', 'mkdir', 'chown', 'sleep'];
const MACHINE = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
const TEMPORAL_CORE = join(
  ROOT,
  `node_modules/@temporalio/core-bridge/releases/${MACHINE}-unknown-linux-gnu/index.node`,
);

/** Images and containers of one test, in a folder of their own: removed with it, unseen by whatever else runs here. */
export class ImageStore {
  readonly dir: string;
  readonly #env: Record<string, string>;

  static async open(): Promise<ImageStore> {
    const dir = await mkdtemp(join(tmpdir(), 'canopy-image-'));
    return new ImageStore(dir, await writeContainerConfig({ dir: join(dir, 'containers'), registry: '127.0.0.1:1' }));
  }
  private constructor(dir: string, env: Record<string, string>) {
    this.dir = dir;
    this.#env = env;
  }

  async podman(...args: string[]): Promise<string> {
    return (await this.#run('podman', args)).stdout.trim();
  }
  /** The last lines a container wrote, to either stream. */
  async logsOf(container: string): Promise<string> {
    const { stdout, stderr } = await this.#run('podman', ['logs', '--tail=20', container]);
    return stdout + stderr;
  }
  #run(program: 'buildah' | 'podman', args: readonly string[]): Promise<{ stdout: string; stderr: string }> {
    return exec(program, args, { env: { ...process.env, ...this.#env }, cwd: ROOT, maxBuffer: 64 * 1024 * 1024 });
  }

  /** Builds the image from this checkout on a base of this machine's own files. No network. Returns its size in bytes. */
  async build(): Promise<number> {
    const base = join(this.dir, 'base');
    const rootfs = new Rootfs(join(base, 'rootfs'));
    await mkdir(rootfs.dir, { recursive: true });
    await rootfs.prepare();
    for (const name of PROGRAMS) {
      const path = await findOnPath(name, '/usr/bin:/bin');
      if (!path) throw new Error(`${name} is not installed`);
      await rootfs.addBinary(path);
    }
    for (const binary of [process.execPath, TEMPORAL_CORE]) {
      await rootfs.addBinary(binary); // for its libraries: it comes with the packages itself
      await rm(join(rootfs.dir, binary));
    }
    const graval = join(rootfs.dir, 'opt/graval');
    await mkdir(graval, { recursive: true });
    await copyFile(await buildGpu({ cuda: false }), join(graval, 'graval'));
    await writeFile(join(base, 'Dockerfile'), 'FROM scratch\nCOPY rootfs/ /\n');
    const common = ['bud', '--quiet', '--network', 'none', '--layers=false'];
    await this.#run('buildah', [...common, '-t', BASE, base]);
    const ignore = join(this.dir, 'ignore');
    await writeFile(ignore, ignoreFileOfThisRepository());
    const args = [`BASE=${BASE}`, 'NODE_MODULES=copied', 'GRAVAL=of-base'].flatMap((arg) => ['--build-arg', arg]);
    const file = ['--ignorefile', ignore, '-f', 'infra/docker/Dockerfile'];
    await this.#run('buildah', [...common, ...args, ...file, '-t', IMAGE, '.']);
    return Number(await this.podman('image', 'inspect', '--format', '{{.Size}}', IMAGE));
  }

  /** Ends every container, and with the folder goes all that was kept. */
  async remove(): Promise<void> {
    await this.podman('rm', '--all', '--force', '--time', '0', '--volumes').catch(() => '');
    const storage = await readFile(this.#env.CONTAINERS_STORAGE_CONF ?? '', 'utf8');
    const runRoot = /^runroot = "(.+)"$/m.exec(storage)?.[1];
    await exec('umount', [join(this.dir, 'containers/storage/overlay')]).catch(() => undefined); // podman mounts it over itself
    for (const dir of [this.dir, runRoot]) if (dir) await rm(dir, { recursive: true, force: true });
  }
}
