import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { unpack, type ArchiveCache } from './archive-cache.ts';
import type { ComputeDriver, ComputeHandle, ComputeObjectView, ComputeState, CreateInput } from './compute-driver.ts';
import {
  groupMembers,
  identityOf,
  isAlive,
  leadersWithEnvironment,
  signalGroup,
  type ProcessIdentity,
} from '../../clients/processes.ts';

/** Marks the process: it is found again even if its worker died before it could write down the pid. */
const MARK = 'CANOPY_DEPLOYMENT_DIR';

export interface ProcessDriverOptions {
  workDir: string;
  /** the instance runtime's entry file, started by this process' own Node */
  entry: string;
  archives: ArchiveCache;
  /** path of the program `graval`, which instances prove with */
  graval?: string;
  pollMs?: number;
}

/**
 * Instances as plain processes: no container runtime, no isolation; development only. Each is the leader of a process
 * group of its own and outlives the miner worker. `deployments/<id>/` holds `rootfs`, `work`, `output.log`, `process.json`.
 */
export function createProcessDriver({
  workDir,
  entry,
  archives,
  graval,
  pollMs = 50,
}: ProcessDriverOptions): ComputeDriver {
  const root = join(workDir, 'deployments');
  const dirOf = (deploymentId: string): string => {
    if (!/^[0-9a-f-]{36}$/.test(deploymentId)) throw new Error(`not a deployment id: ${deploymentId}`);
    return join(root, deploymentId);
  };

  async function recorded(dir: string): Promise<ProcessIdentity | null> {
    const text = await readFile(join(dir, 'process.json'), 'utf8').catch(() => null);
    if (text !== null) return JSON.parse(text) as ProcessIdentity;
    const [pid] = await leadersWithEnvironment(MARK, dir);
    const identity = pid === undefined ? null : await identityOf(pid);
    if (identity) await record(dir, identity);
    return identity;
  }

  async function create(input: CreateInput): Promise<ComputeHandle> {
    const { deploymentId, artifact, imageId, signal } = input;
    const dir = dirOf(deploymentId);
    const started = await recorded(dir);
    if (started) return { driver: 'process', ...started };
    if (artifact.kind !== 'archive') throw new Error('the process driver runs archives; this image is an OCI image');
    const archive = await archives.fetch({ imageId, sha256: artifact.sha256, sizeBytes: artifact.sizeBytes }, signal);
    await mkdir(join(dir, 'work'), { recursive: true });
    await unpack(archive, join(dir, 'rootfs'));
    const identity = await start(dir, environmentOf(input, dir, workDir, graval), entry);
    await record(dir, identity);
    return { driver: 'process', ...identity };
  }

  async function inspect(deploymentId: string): Promise<ComputeState> {
    const dir = dirOf(deploymentId);
    const identity = await recorded(dir);
    if (identity === null) return { state: 'absent' };
    if (await isAlive(identity)) return { state: 'running' };
    const code = await readFile(join(dir, 'exit-code'), 'utf8').catch(() => '');
    return { state: 'exited', code: /^-?[0-9]+$/.test(code) ? Number(code) : null };
  }

  return {
    name: 'process',
    create,
    inspect,
    async list() {
      const names = await readdir(root).catch((err: NodeJS.ErrnoException) => {
        if (err.code === 'ENOENT') return [];
        throw err;
      });
      const objects = names
        .filter((name) => /^[0-9a-f-]{36}$/.test(name))
        .map(async (deploymentId): Promise<ComputeObjectView> => {
          const [state, { birthtimeMs }] = await Promise.all([inspect(deploymentId), stat(join(root, deploymentId))]);
          return {
            deploymentId,
            state: state.state === 'running' ? 'running' : 'exited',
            createdAtMs: Math.round(birthtimeMs),
          };
        });
      return Promise.all(objects);
    },
    async stop(deploymentId, graceS, signal) {
      const dir = dirOf(deploymentId);
      const identity = await recorded(dir);
      if (identity) await end(identity, graceS, pollMs, signal);
      await rm(dir, { recursive: true, force: true, maxRetries: 3 });
    },
    async logs(deploymentId, maxBytes) {
      const file = await open(join(dirOf(deploymentId), 'output.log'), 'r').catch(() => null);
      if (!file) return '';
      try {
        const { size } = await file.stat();
        const length = Math.min(size, maxBytes);
        const { buffer } = await file.read(Buffer.alloc(length), 0, length, size - length);
        return buffer.toString('utf8');
      } finally {
        await file.close();
      }
    },
  };
}

function environmentOf(
  { artifact, env, ports, deploymentId }: CreateInput,
  dir: string,
  workDir: string,
  graval: string | undefined,
): Record<string, string> {
  return {
    PATH: process.env.PATH ?? '/usr/local/bin:/usr/bin:/bin',
    LANG: 'C.UTF-8',
    ...artifact.env,
    ...env,
    HOME: join(dir, 'work'),
    HF_HOME: join(workDir, 'cache', 'huggingface'),
    CANOPY_BIND_HOST: '127.0.0.1',
    CANOPY_BIND_PORT: String(ports.primary),
    CANOPY_BIND_LOG_PORT: String(ports.logging),
    CANOPY_APP_DIR: join(dir, 'rootfs'),
    CANOPY_WORK_DIR: join(dir, 'work'),
    ...(graval === undefined ? {} : { CANOPY_GRAVAL: graval }),
    CANOPY_DEPLOYMENT_ID: deploymentId,
    [MARK]: dir,
  };
}

async function start(dir: string, env: Record<string, string>, entry: string): Promise<ProcessIdentity> {
  const output = await open(join(dir, 'output.log'), 'a', 0o600);
  try {
    const child = spawn(process.execPath, [entry], {
      cwd: join(dir, 'rootfs'),
      env,
      detached: true,
      stdio: ['ignore', output.fd, output.fd],
    });
    // Only the worker that started it can learn the code; to its successor the end is an end all the same.
    child.once(
      'exit',
      (code, signal) => void writeFile(join(dir, 'exit-code'), String(code ?? signal)).catch(() => {}),
    );
    await once(child, 'spawn');
    child.unref();
    const identity = child.pid === undefined ? null : await identityOf(child.pid);
    return identity ?? { pid: child.pid ?? 0, startTicks: 'ended at once', bootId: '' };
  } finally {
    await output.close();
  }
}

async function record(dir: string, identity: ProcessIdentity): Promise<void> {
  await writeFile(join(dir, 'process.json.partial'), JSON.stringify(identity));
  await rename(join(dir, 'process.json.partial'), join(dir, 'process.json'));
}

/** The leader drains on SIGTERM while its child still answers; what is left of the group after that is killed. */
async function end(identity: ProcessIdentity, graceS: number, pollMs: number, signal?: AbortSignal): Promise<void> {
  const pause = () => new Promise((resolve) => setTimeout(resolve, pollMs));
  if (await isAlive(identity)) {
    process.kill(identity.pid, 'SIGTERM');
    const deadline = Date.now() + graceS * 1000;
    while (Date.now() < deadline && (await isAlive(identity))) {
      signal?.throwIfAborted();
      await pause();
    }
  }
  while (await ownsGroup(identity)) {
    if ((await groupMembers(identity.pid)).length === 0) return;
    signal?.throwIfAborted();
    signalGroup(identity.pid, 'SIGKILL');
    await pause();
  }
}

/** A pid is not given out again while its group lives: another process under it means that our group is gone. */
async function ownsGroup({ pid, startTicks, bootId }: ProcessIdentity): Promise<boolean> {
  const self = await identityOf(process.pid);
  if (pid <= 1 || self?.bootId !== bootId) return false;
  const now = await identityOf(pid);
  return now === null || now.startTicks === startTicks;
}
