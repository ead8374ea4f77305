import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ArchiveCache } from '../../activities/miner/compute/archive-cache.ts';
import { createPodmanDriver } from '../../activities/miner/compute/podman-driver.ts';
import { createProcessDriver } from '../../activities/miner/compute/process-driver.ts';
import type { ComputeDriver } from '../../activities/miner/compute/compute-driver.ts';
import { detectContainerRuntime } from './base-images/detect.ts';
import { ensureBaseImage, writeContainerConfig } from './base-images/build-base.ts';
import { buildRuntimeBundle } from './runtime-bundle.ts';
import { startRegistry } from './services/registry.ts';
import { findOnPath } from './toolchain.ts';
import type { Service } from './services/child.ts';

/** How instances run on this machine, and what the programs need to know of it. */
export interface Compute {
  kind: 'podman' | 'process';
  why: string;
  /** where the container tools find their configuration */
  env: Record<string, string>;
  runtimeDir: string | null;
  /** the registry, and in it the base image that examples build on; null where no containers run */
  startRegistry: (logsDir: string) => Promise<Service | null>;
}

export interface ComputeOptions {
  wanted: 'podman' | 'process' | 'auto';
  dataDir: string;
  registryPort: number;
  note: (message: string) => void;
}

const PROCESS: Omit<Compute, 'why'> = { kind: 'process', env: {}, runtimeDir: null, startRegistry: async () => null };

/** podman with buildah where both really work, else plain processes; says which and why. */
export async function prepareCompute({ wanted, dataDir, registryPort, note }: ComputeOptions): Promise<Compute> {
  if (wanted === 'process')
    return { ...PROCESS, why: 'asked for with --compute process; no isolation, for development only' };
  const registryBinary = await findOnPath('docker-registry');
  const found = await detectContainerRuntime();
  const missing =
    !found.podman || !found.buildah ? found.why : registryBinary ? null : 'docker-registry is not on PATH';
  if (missing !== null || registryBinary === null) {
    if (wanted === 'podman')
      throw new Error(
        `--compute podman cannot work here: ${missing}. On Debian: apt-get install podman buildah runc fuse-overlayfs docker-registry`,
      );
    return { ...PROCESS, why: `containers do not work here (${missing}); no isolation, for development only` };
  }
  const registry = `127.0.0.1:${registryPort}`;
  const containersDir = join(dataDir, 'containers');
  const env = await writeContainerConfig({ dir: containersDir, registry });
  note('bundling the instance runtime');
  const runtimeDir = await buildRuntimeBundle(join(dataDir, 'runtime'));
  return {
    kind: 'podman',
    why: found.why,
    env,
    runtimeDir,
    startRegistry: async (logsDir) => {
      const service = await startRegistry({
        binary: registryBinary,
        dir: join(dataDir, 'registry'),
        port: registryPort,
        logFile: join(logsDir, 'registry.log'),
      });
      await ensureBaseImage({ registry, dir: containersDir, env });
      return service;
    },
  };
}

/** Ends every instance of this data directory: SIGTERM drains, then nothing is left. Reads what is on disk, so it also
 * cleans up after a start that was killed. */
export async function stopInstances(dataDir: string, hotkey?: string): Promise<void> {
  const workDir = join(dataDir, 'miner');
  const archives = new ArchiveCache({
    dir: join(workDir, 'archives'),
    download: () => Promise.reject(new Error('only stops')),
  });
  await stopAll(createProcessDriver({ workDir, entry: '', archives }));
  const containersDir = join(dataDir, 'containers');
  if (!hotkey || !existsSync(containersDir) || !(await findOnPath('podman'))) return;
  Object.assign(process.env, await writeContainerConfig({ dir: containersDir, registry: '127.0.0.1:1' })); // podman reads it
  await stopAll(createPodmanDriver({ workDir, minerHotkey: hotkey, runtimeDir: '' }));
}

async function stopAll(driver: ComputeDriver): Promise<void> {
  const objects = await driver.list();
  await Promise.all(objects.map(({ deploymentId }) => driver.stop(deploymentId, 10)));
}
