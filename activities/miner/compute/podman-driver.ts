import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GRAVAL_MOUNT, RUNTIME_MOUNT } from '../../../workflows/domain/protocol/runtime-env.ts';
import { INSTANCE_LOG_PORT, INSTANCE_PORT } from '../../../workflows/domain/protocol/canopy-transport.ts';
import type { ComputeDriver, ComputeObjectView, ComputeState, CreateInput } from './compute-driver.ts';

export interface PodmanDriverOptions {
  workDir: string;
  minerHotkey: string;
  /** folder with `node` and `app/`, mounted read-only into every container */
  runtimeDir: string;
  /** path of the program `graval`, mounted read-only as `GRAVAL_MOUNT` */
  graval?: string;
  /** `cdi`: containers get the GPUs of their deployment as `nvidia.com/gpu=GPU-<uuid>`; `none`: simulated GPUs, or an OCI hook */
  gpus?: 'cdi' | 'none';
  /** registry of references that name none */
  registry?: string;
  /** address of the host on which instance ports are published */
  publishAddress?: string;
  /** `host`: the container binds its ports on this machine's loopback itself, for networks that live on loopback */
  network?: 'bridge' | 'host';
  podman?: string;
}

/** Instances as containers of podman; its configuration (CONTAINERS_CONF and the like) comes from the environment. */
export function createPodmanDriver(options: PodmanDriverOptions): ComputeDriver {
  const {
    workDir,
    minerHotkey,
    runtimeDir,
    graval,
    gpus = 'none',
    registry,
    publishAddress = '127.0.0.1',
    network = 'bridge',
    podman = 'podman',
  } = options;
  const run = (args: string[], signal?: AbortSignal) => runPodman(podman, args, signal);

  async function inspect(deploymentId: string): Promise<ComputeState> {
    const name = containerName(deploymentId);
    const exists = await run(['container', 'exists', name]);
    if (exists.code === 1) return { state: 'absent' };
    const { code, stdout, stderr } = await run([
      'container',
      'inspect',
      '--format',
      '{{.State.Status}} {{.State.ExitCode}}',
      name,
    ]);
    if (code !== 0) return { state: 'unknown', why: stderr.slice(0, 300) };
    const [status, exitCode] = stdout.trim().split(' ');
    if (status === 'exited' || status === 'stopped' || status === 'dead')
      return { state: 'exited', code: Number(exitCode) };
    return status === 'running' || status === 'paused' || status === 'stopping'
      ? { state: 'running' }
      : { state: 'unknown', why: `status ${status}` };
  }

  return {
    name: 'podman',
    inspect,
    async create(input) {
      const { deploymentId, artifact, signal } = input;
      const name = containerName(deploymentId);
      if (artifact.kind !== 'oci') throw new Error('the podman driver runs OCI images; this image is an archive');
      const exists = await run(['container', 'exists', name], signal);
      // Made but perhaps never started: its worker died in between. Starting a running or ended one changes nothing wrong.
      if (exists.code === 0) {
        const state = await inspect(deploymentId);
        if (state.state === 'unknown') await expectOk(run(['start', name], signal));
        return { driver: 'podman', containerName: name };
      }
      const cacheDir = join(workDir, 'cache');
      await mkdir(cacheDir, { recursive: true });
      await chmod(cacheDir, 0o1777); // images run as users of their own
      const envFile = join(workDir, `${randomUUID()}.env`);
      await writeFile(envFile, renderEnv(input, network, graval !== undefined), { mode: 0o600 });
      try {
        const image = imageOf(artifact.reference, artifact.digest, registry);
        await expectOk(
          run(
            runArguments({
              input,
              name,
              image,
              envFile,
              cacheDir,
              runtimeDir,
              graval,
              gpus,
              minerHotkey,
              publishAddress,
              network,
            }),
            signal,
          ),
        );
      } catch (err) {
        // A container that could not start (a port taken, say) must not stand in the way of the next attempt.
        await run(['rm', '--force', '--volumes', '--ignore', name]);
        throw err;
      } finally {
        await rm(envFile, { force: true });
      }
      return { driver: 'podman', containerName: name };
    },
    async list() {
      const stdout = await expectOk(
        run(['ps', '--all', '--filter', `label=canopy.miner=${minerHotkey}`, '--format', 'json']),
      );
      const containers = JSON.parse(stdout || '[]') as {
        Labels: Record<string, string>;
        State: string;
        Created: number;
      }[];
      return containers.flatMap(({ Labels, State, Created }): ComputeObjectView[] => {
        const deploymentId = Labels['canopy.deployment'];
        if (deploymentId === undefined) return [];
        const state = State === 'running' ? 'running' : State === 'exited' || State === 'dead' ? 'exited' : 'unknown';
        return [{ deploymentId, state, createdAtMs: Created * 1000 }];
      });
    },
    async stop(deploymentId, graceS, signal) {
      const name = containerName(deploymentId);
      const exists = await run(['container', 'exists', name], signal);
      if (exists.code === 1) return;
      await run(['stop', '--ignore', '--time', String(graceS), name], signal);
      await expectOk(run(['rm', '--force', '--volumes', '--ignore', name], signal));
      const left = await run(['container', 'exists', name], signal);
      if (left.code !== 1) throw new Error(`container ${name} is still there after its removal`);
    },
    async logs(deploymentId, maxBytes) {
      const { stdout, stderr } = await run(['logs', '--tail', '1000', containerName(deploymentId)]);
      return `${stdout}${stderr}`.slice(-maxBytes);
    },
  };
}

interface RunInput {
  input: CreateInput;
  name: string;
  image: string;
  envFile: string;
  cacheDir: string;
  runtimeDir: string;
  graval: string | undefined;
  gpus: 'cdi' | 'none';
  minerHotkey: string;
  publishAddress: string;
  network: 'bridge' | 'host';
}

function runArguments({
  input,
  name,
  image,
  envFile,
  cacheDir,
  runtimeDir,
  graval,
  gpus,
  minerHotkey,
  publishAddress,
  network,
}: RunInput): string[] {
  const { deploymentId, artifact, ports, limits } = input;
  const appDir = appDirOf(artifact.workingDir);
  return [
    // An init, because the runtime does not reap what its child leaves behind.
    'run',
    '--detach',
    '--init',
    '--name',
    name,
    '--label',
    `canopy.deployment=${deploymentId}`,
    '--label',
    `canopy.miner=${minerHotkey}`,
    '--cap-drop',
    'all',
    '--security-opt',
    'no-new-privileges',
    '--read-only',
    '--tmpfs',
    '/tmp:rw,mode=1777',
    // The chute's code is written beside the image's own files: a copy of that folder, gone with the container.
    ...(appDir === '/tmp/app' ? [] : ['--volume', appDir]),
    ...(limits.memoryGb === null ? [] : ['--memory', `${limits.memoryGb}g`]),
    ...(limits.cpus === null ? [] : ['--cpus', String(limits.cpus)]),
    '--pids-limit',
    String(limits.pids),
    ...(network === 'host'
      ? ['--network', 'host']
      : [
          '--publish',
          `${publishAddress}:${ports.primary}:${INSTANCE_PORT}`,
          '--publish',
          `${publishAddress}:${ports.logging}:${INSTANCE_LOG_PORT}`,
        ]),
    '--volume',
    `${runtimeDir}:${RUNTIME_MOUNT}:ro`,
    ...(graval === undefined ? [] : ['--volume', `${graval}:${GRAVAL_MOUNT}:ro`]),
    ...(gpus === 'cdi' ? devicesOf(input) : []),
    '--volume',
    `${cacheDir}:/cache:rw`,
    '--env-file',
    envFile,
    '--entrypoint',
    `${RUNTIME_MOUNT}/node`,
    image,
    `${RUNTIME_MOUNT}/app/api/instance/main.ts`,
  ];
}

/** By uuid, never by index: which GPU is number 0 may be another after a reboot. */
function devicesOf({ env }: CreateInput): string[] {
  const ids = env.NVIDIA_VISIBLE_DEVICES.split(',').filter((id) => id !== '');
  return ids.flatMap((id) => {
    if (!/^GPU-[0-9a-f-]{36}$/.test(id)) throw new Error(`${id} is not the uuid of a GPU`);
    return ['--device', `nvidia.com/gpu=${id}`];
  });
}

/** By file, not by argument: a launch token on a command line is there for every user to read. */
function renderEnv({ env, artifact, ports }: CreateInput, network: 'bridge' | 'host', hasGraval: boolean): string {
  const isShared = network === 'host';
  const all: Record<string, string> = {
    ...env,
    HF_HOME: '/cache/huggingface',
    HOME: '/tmp',
    CANOPY_BIND_HOST: isShared ? '127.0.0.1' : '0.0.0.0',
    CANOPY_BIND_PORT: String(isShared ? ports.primary : INSTANCE_PORT),
    CANOPY_BIND_LOG_PORT: String(isShared ? ports.logging : INSTANCE_LOG_PORT),
    CANOPY_APP_DIR: appDirOf(artifact.workingDir),
    CANOPY_WORK_DIR: '/tmp',
    ...(hasGraval ? { CANOPY_GRAVAL: GRAVAL_MOUNT } : {}),
  };
  return Object.entries(all)
    .map(([name, value]) => {
      if (/[\r\n]/.test(value)) throw new Error(`environment variable ${name} has a line break`);
      return `${name}=${value}\n`;
    })
    .join('');
}

const appDirOf = (workingDir: string): string => (/^\/[^/:]/.test(workingDir) ? workingDir : '/tmp/app');
const containerName = (deploymentId: string): string => `canopy-${deploymentId}`;

/** `host/user/name:tag` → `host/user/name@sha256:…`: what was built, whatever the tag says now. */
export function imageOf(reference: string, digest: string, registry?: string): string {
  if (!/^sha256:[0-9a-f]{64}$/.test(digest)) throw new Error('image digest is not a SHA-256');
  const [first = '', ...rest] = reference.split('/');
  const isHost = rest.length > 0 && (/[.:]/.test(first) || first === 'localhost');
  const named = isHost || registry === undefined ? reference : `${registry}/${reference}`;
  return `${named.replace(/:[^/:]+$/, '')}@${digest}`;
}

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

function runPodman(podman: string, args: string[], signal?: AbortSignal): Promise<Ran> {
  return new Promise((resolve, reject) => {
    execFile(
      podman,
      args,
      { maxBuffer: 32 * 1024 * 1024, env: process.env, ...(signal ? { signal } : {}) },
      (err, stdout, stderr) => {
        if (err && typeof err.code !== 'number') reject(err);
        else resolve({ code: err ? Number(err.code) : 0, stdout, stderr });
      },
    );
  });
}

async function expectOk(ran: Promise<Ran>): Promise<string> {
  const { code, stdout, stderr } = await ran;
  if (code !== 0)
    throw new Error(`podman ended with ${code}: ${stderr.trim().split('\n').slice(-3).join(' ').slice(0, 500)}`);
  return stdout;
}
