import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findOnPath } from '../toolchain.ts';
import { writeContainerConfig } from './container-config.ts';
import { Rootfs } from './rootfs.ts';

const run = promisify(execFile);
const WITHIN_MS = 20_000;

export interface ContainerRuntime {
  podman: boolean;
  buildah: boolean;
  why: string;
}

let known: Promise<ContainerRuntime> | null = null;

/** Whether containers really work here: builds an image of one program and runs it. Tried once per process. */
export const detectContainerRuntime = (): Promise<ContainerRuntime> => (known ??= tryBoth());

async function tryBoth(): Promise<ContainerRuntime> {
  for (const name of ['buildah', 'podman', 'runc']) {
    if (!(await findOnPath(name)) && !(await findOnPath(name, '/usr/sbin:/sbin')))
      return { podman: false, buildah: false, why: `${name} is not installed` };
  }
  const dir = await mkdtemp(join(tmpdir(), 'canopy-detect-'));
  const env = { ...process.env, ...(await writeContainerConfig({ dir, registry: '127.0.0.1:1' })) };
  const options = { env, timeout: WITHIN_MS };
  let built = false;
  try {
    await mkdir(join(dir, 'context', 'rootfs'), { recursive: true });
    const rootfs = new Rootfs(join(dir, 'context', 'rootfs'));
    await rootfs.prepare();
    await rootfs.addBinary('/bin/true');
    await writeFile(join(dir, 'context', 'Dockerfile'), 'FROM scratch\nCOPY rootfs/ /\nRUN ["/bin/true"]\n');
    await run(
      'buildah',
      ['bud', '--quiet', '--network', 'none', '-t', 'localhost/canopy-detect', join(dir, 'context')],
      options,
    );
    built = true;
    await run('podman', ['run', '--rm', '--network', 'none', 'localhost/canopy-detect', '/bin/true'], options);
    return { podman: true, buildah: true, why: 'an image was built and run' };
  } catch (err) {
    const said = ((err as { stderr?: string }).stderr ?? (err as Error).message).trim().split('\n').at(-1) ?? '';
    return {
      podman: false,
      buildah: built,
      why: `${built ? 'podman could not run a container' : 'buildah could not build'}: ${said.slice(0, 200)}`,
    };
  } finally {
    await run('umount', [join(dir, 'storage', 'overlay')]).catch(() => undefined); // podman mounts it over itself
    await rm(dir, { recursive: true, force: true }).catch(() => undefined);
  }
}
