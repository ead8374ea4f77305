import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { BuildFailure } from './build-failure.ts';
import type { BuildJob, BuildLimits, BuildOutput, ImageBuilder } from './builder.ts';
import { diskUsage } from './disk-watch.ts';
import { checkDockerfile } from './dockerfile-policy.ts';
import { runContained } from './run-contained.ts';
import type { Mount } from './sandbox.ts';
import { BUILD_MARK, CGROUP_PARENT, limitPids, removeCgroups, sweepBuild } from './workspace.ts';

const run = promisify(execFile);
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/** Where an operator tells buildah of mirrors, insecure registries and runtimes; nothing else of our environment is passed on. */
const PASSED_ON = ['CONTAINERS_CONF', 'CONTAINERS_REGISTRIES_CONF', 'CONTAINERS_STORAGE_CONF', 'STORAGE_DRIVER'];

export interface BuildahOptions {
  /** this forge's own storage, never shared with another process */
  storageDir: string;
  registry: string;
  insecure: boolean;
  network: 'none' | 'host';
  mounts: readonly Mount[];
  limits: BuildLimits;
  env: NodeJS.ProcessEnv;
  /** where programs are looked for; default: the system's folders */
  path?: string;
}

const inspected = z.object({
  OCIv1: z.object({
    config: z
      .object({
        Env: z.array(z.string()).nullish(),
        Entrypoint: z.array(z.string()).nullish(),
        Cmd: z.array(z.string()).nullish(),
        WorkingDir: z.string().nullish(),
      })
      .nullish(),
  }),
  Manifest: z
    .string()
    .transform((text) =>
      z.object({ layers: z.array(z.object({ size: z.number() })).nullish() }).parse(JSON.parse(text)),
    ),
});

/**
 * The prefix that contains a build: namespaces of its own for processes and mounts, which die with their first process,
 * and that dies with us. So one kill ends every step and unmounts every layer, also when this forge is killed itself.
 */
const NAMESPACES = [
  'setpriv',
  '--pdeathsig',
  'KILL',
  'unshare',
  '--mount',
  '--pid',
  '--fork',
  '--kill-child=KILL',
  '--mount-proc',
];

/** Throws saying what is missing: a forge that cannot contain its builds does not start. */
export async function createBuildahBuilder(options: BuildahOptions): Promise<ImageBuilder> {
  const { storageDir, network } = options;
  const env: Record<string, string> = {
    PATH: options.path ?? PATH,
    HOME: storageDir,
    TMPDIR: join(storageDir, 'tmp'),
    LANG: 'C.UTF-8',
  };
  for (const name of PASSED_ON) if (options.env[name]) env[name] = options.env[name];
  await mkdir(join(storageDir, 'tmp'), { recursive: true, mode: 0o700 });
  const probe = (command: string[]): Promise<string> =>
    run(command[0] ?? '', command.slice(1), { env, timeout: 30_000 }).then(({ stdout }) => stdout);
  const version = await probe(['buildah', '--version']).catch((err: unknown) => {
    throw new Error('forge: buildah is not usable on this machine', { cause: err });
  });
  await probe([...NAMESPACES, 'true']).catch((err: unknown) => {
    throw new Error('forge: builds cannot be given namespaces of their own here (unshare, setpriv)', { cause: err });
  });
  const hasRunc = await probe([...NAMESPACES, 'runc', '--version']).then(
    () => true,
    () => false,
  );
  if (!hasRunc && network === 'none')
    throw new Error(
      'forge: without runc a build shares the network of this machine; install runc or set CANOPY_FORGE_NETWORK=host',
    );
  const isolation = hasRunc
    ? ['--isolation', 'oci', '--runtime', 'runc', '--network', network]
    : ['--isolation', 'chroot'];
  const buildah = (...args: string[]): string[] => [
    ...NAMESPACES,
    'buildah',
    '--root',
    join(storageDir, 'root'),
    '--runroot',
    join(storageDir, 'run'),
    ...args,
  ];
  const tls = options.insecure ? ['--tls-verify=false'] : [];

  return {
    form: 'buildah',
    containment: `${version.trim()}, ${hasRunc ? 'oci isolation by runc' : 'chroot isolation'}, network ${network}`,
    storageDirs: [storageDir],
    async build(job): Promise<BuildOutput> {
      checkDockerfile(job.dockerfile, { registry: options.registry, username: job.username, network });
      await limitPids(job.buildId, options.limits.pids);
      const local = `localhost/${job.buildId}:latest`;
      await job.log.stage('build', () => bud(job, local));
      const { config, sizeBytes } = await inspect(local);
      const reference = `${options.registry}/${job.username.toLowerCase()}/${job.name}:${job.tag}`;
      const digest = await job.log.stage('push', () => push(job, local, reference));
      return { kind: 'oci', artifact: { kind: 'oci', reference, digest, sizeBytes, ...config } };
    },
    async clean({ buildId }) {
      await sweepBuild(buildId);
      // Only what this build made: bases stay for the next one.
      const containers = await list(['containers', '--json'], z.array(z.object({ id: z.string() })).nullish());
      if (containers && containers.length > 0) await probe(buildah('rm', '--all')).catch(() => {});
      await probe(buildah('rmi', '--force', `localhost/${buildId}:latest`)).catch(() => {});
      await probe(buildah('rmi', '--prune', '--force')).catch(() => {});
      await removeCgroups(buildId);
      if ((await diskUsage([storageDir])) > options.limits.maxBytes)
        await probe(buildah('rmi', '--all', '--force')).catch(() => {});
    },
  };

  async function bud(job: BuildJob, local: string): Promise<void> {
    let lastLine = '';
    const { limits, mounts } = options;
    const dockerfile = join(job.dir, 'Dockerfile');
    await writeFile(dockerfile, job.dockerfile);
    const code = await runContained({
      command: [
        ...buildah('bud'),
        ...isolation,
        '--format',
        'docker',
        '--layers=false',
        '--no-cache',
        '--force-rm',
        ...tls,
        ...(hasRunc
          ? [
              '--memory',
              `${limits.memoryMb}m`,
              '--memory-swap',
              `${limits.memoryMb}m`,
              '--cpu-period',
              '100000',
              '--cpu-quota',
              String(Math.round(limits.cpus * 100_000)),
              '--cgroup-parent',
              `/${CGROUP_PARENT}/${job.buildId}`,
            ]
          : []),
        '--ulimit',
        `fsize=${limits.maxBytes}:${limits.maxBytes}`,
        '--ulimit',
        'nofile=20000:20000',
        '--http-proxy=false',
        ...mounts.flatMap(({ source, target }) => ['-v', `${source}:${target}:ro`]),
        '-t',
        local,
        '-f',
        dockerfile,
        job.contextDir,
      ],
      cwd: job.dir,
      env: { ...env, [BUILD_MARK]: job.buildId },
      signal: job.signal,
      onLine: (type, line) => {
        lastLine = line.trim() === '' ? lastLine : line;
        job.log.line(type, line);
      },
      sweep: () => sweepBuild(job.buildId),
    });
    if (code !== 0)
      throw new BuildFailure(
        `the build returned ${code ?? 'after it was killed'}: ${lastLine.replace(/^Error: /i, '').slice(0, 400)}`,
      );
  }

  async function inspect(
    local: string,
  ): Promise<{ config: { command: string[]; workingDir: string; env: Record<string, string> }; sizeBytes: number }> {
    const { OCIv1, Manifest } = inspected.parse(JSON.parse(await probe(buildah('inspect', '--type', 'image', local))));
    const { Env, Entrypoint, Cmd, WorkingDir } = OCIv1.config ?? {};
    return {
      config: {
        command: [...(Entrypoint ?? []), ...(Cmd ?? [])],
        workingDir: WorkingDir || '/',
        env: Object.fromEntries(
          (Env ?? []).map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]),
        ),
      },
      sizeBytes: (Manifest.layers ?? []).reduce((sum, layer) => sum + layer.size, 0),
    };
  }

  async function push(job: BuildJob, local: string, reference: string): Promise<string> {
    const digestFile = join(job.dir, 'digest');
    let last = '';
    const code = await runContained({
      command: [
        ...buildah('push'),
        '--format',
        'v2s2',
        ...tls,
        '--digestfile',
        digestFile,
        local,
        `docker://${reference}`,
      ],
      cwd: job.dir,
      env: { ...env, [BUILD_MARK]: job.buildId },
      signal: job.signal,
      onLine: (type, line) => {
        last = line;
        job.log.line(type, line);
      },
    });
    if (code !== 0) throw new Error(`push returned ${code ?? 'after it was killed'}: ${last.slice(0, 400)}`); // our registry, not their doing
    return (await readFile(digestFile, 'utf8')).trim();
  }

  async function list<Schema extends z.ZodType>(args: string[], schema: Schema): Promise<z.output<Schema> | null> {
    const text = await probe(buildah(...args)).catch(() => '');
    return text.trim() === '' ? null : schema.parse(JSON.parse(text));
  }
}
