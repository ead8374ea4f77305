import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { BUILD_MARK, limitPids, sweepBuild } from './workspace.ts';
import { runContained } from './run-contained.ts';

const run = promisify(execFile);

export interface Mount {
  source: string;
  target: string;
}
export interface SandboxOptions {
  network: 'none' | 'host';
  mounts: readonly Mount[];
  /** data of one process, megabytes; processes of one build; size of one file, bytes */
  memoryMb: number;
  pids: number;
  maxFileBytes: number;
}

export interface SandboxStep {
  buildId: string;
  /** the image's file tree on disk, and the attempt's folder for temporary files */
  root: string;
  tmpDir: string;
  /** inside the image */
  workingDir: string;
  argv: string[];
  env: Record<string, string>;
  signal: AbortSignal;
  onLine: (logType: 'stdout' | 'stderr', line: string) => void;
}

export interface Sandbox {
  kind: 'bwrap' | 'plain';
  description: string;
  run: (step: SandboxStep) => Promise<number | null>;
}

/** Where a step sees the host's own files: an image cannot have files there. */
export const HOST_DIRS = [
  '/usr',
  '/bin',
  '/sbin',
  '/lib',
  '/lib32',
  '/lib64',
  '/libx32',
  '/etc',
  '/proc',
  '/dev',
  '/sys',
  '/run',
  '/var',
  '/boot',
  '/tmp',
] as const;
const HOST_ETC = [
  'ld.so.cache',
  'ld.so.conf',
  'ld.so.conf.d',
  'alternatives',
  'ssl',
  'ca-certificates',
  'pki',
  'resolv.conf',
  'hosts',
  'nsswitch.conf',
  'passwd',
  'group',
  'localtime',
  'mime.types',
];
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const works = (program: string, args: string[]): Promise<boolean> =>
  run(program, args, { timeout: 10_000, env: { PATH } }).then(
    () => true,
    () => false,
  );

/** The strongest containment that works here: namespaces by bubblewrap, else a plain child process. */
export async function chooseSandbox(options: SandboxOptions): Promise<Sandbox> {
  const bwrapWorks = await works('bwrap', [
    ...namespaces(options),
    '--ro-bind',
    '/',
    '/',
    '--proc',
    '/proc',
    '--dev',
    '/dev',
    'true',
  ]);
  if (bwrapWorks) return bwrapSandbox(options);
  const pdeathsig = await works('setpriv', ['--pdeathsig', 'KILL', 'true']);
  return plainSandbox(options, pdeathsig);
}

const namespaces = ({ network }: SandboxOptions): string[] => [
  '--unshare-user-try',
  '--unshare-ipc',
  '--unshare-pid',
  '--unshare-uts',
  '--unshare-cgroup-try',
  ...(network === 'none' ? ['--unshare-net'] : []),
  '--die-with-parent',
  '--new-session',
  '--cap-drop',
  'ALL',
  '--hostname',
  'build',
];

/** Limits that hold in both: the shell sets them, then becomes the step. */
function limited({ memoryMb, maxFileBytes }: SandboxOptions, argv: string[]): string[] {
  return [
    '/bin/sh',
    '-c',
    `ulimit -c 0; ulimit -d ${memoryMb * 1024}; ulimit -f ${Math.ceil(maxFileBytes / 512)}; exec "$@"`,
    'step',
    ...argv,
  ];
}

/** Enters the build's cgroup, where there is one, then becomes the command: its bound on processes holds for all it starts. */
async function bounded({ pids }: SandboxOptions, buildId: string, argv: string[]): Promise<string[]> {
  const group = await limitPids(buildId, pids);
  return group
    ? ['/bin/sh', '-c', 'group=$1; shift; echo $$ > "$group/cgroup.procs"; exec "$@"', 'step', group, ...argv]
    : argv;
}

export function bwrapSandbox(options: SandboxOptions): Sandbox {
  return {
    kind: 'bwrap',
    description: `bubblewrap namespaces, network ${options.network}`,
    async run({ buildId, root, tmpDir, workingDir, argv, env, signal, onLine }) {
      await mkdir(join(root, workingDir), { recursive: true });
      const host = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32'].filter((path) => existsSync(path));
      const command = [
        'bwrap',
        ...namespaces(options),
        '--clearenv',
        ...Object.entries({ PATH, HOME: '/root', LANG: 'C.UTF-8', ...env, [BUILD_MARK]: buildId }).flatMap(
          ([name, value]) => ['--setenv', name, value],
        ),
        '--bind',
        root,
        '/',
        ...host.flatMap((path) => ['--ro-bind', path, path]),
        '--size',
        '1048576',
        '--tmpfs',
        '/etc',
        '--size',
        '1048576',
        '--tmpfs',
        '/var',
        ...HOST_ETC.flatMap((name) => ['--ro-bind-try', `/etc/${name}`, `/etc/${name}`]),
        '--proc',
        '/proc',
        '--dev',
        '/dev',
        '--bind',
        tmpDir,
        '/tmp',
        '--symlink',
        '/tmp',
        '/var/tmp',
        ...options.mounts.flatMap(({ source, target }) => ['--ro-bind', source, target]),
        '--chdir',
        workingDir,
        ...limited(options, argv),
      ];
      return runContained({
        command: await bounded(options, buildId, command),
        cwd: '/',
        env: { PATH, [BUILD_MARK]: buildId },
        signal,
        onLine,
        sweep: () => sweepBuild(buildId),
      });
    },
  };
}

/** For machines without namespaces: development only, and every build log says so. */
export function plainSandbox(options: SandboxOptions, pdeathsig: boolean): Sandbox {
  return {
    kind: 'plain',
    description: 'plain child processes: NOT isolated from this machine',
    async run({ buildId, root, tmpDir, workingDir, argv, env, signal, onLine }) {
      const cwd = join(root, workingDir);
      await mkdir(cwd, { recursive: true });
      return runContained({
        command: await bounded(options, buildId, [
          ...(pdeathsig ? ['setpriv', '--pdeathsig', 'KILL'] : []),
          ...limited(options, argv),
        ]),
        cwd,
        env: {
          PATH: process.env.PATH ?? PATH,
          HOME: tmpDir,
          TMPDIR: tmpDir,
          LANG: 'C.UTF-8',
          ...env,
          [BUILD_MARK]: buildId,
        },
        signal,
        onLine,
        sweep: () => sweepBuild(buildId),
      });
    },
  };
}
