import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { chmod, lstat, mkdir, readdir, stat } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { create as createTar } from 'tar';
import { BuildFailure } from './build-failure.ts';
import type { BuildJob, BuildOutput, ImageBuilder } from './builder.ts';
import { copyInto, makeFolders } from './copy-into.ts';
import { expand, expandProperties, expandWords, parseDockerfile, refuse, type DockerfileStep } from './dockerfile.ts';
import { HOST_DIRS, type Sandbox } from './sandbox.ts';
import { sweepBuild } from './workspace.ts';

/** Bases whose place this machine's own python can take. */
const KNOWN_BASE = /^(docker\.io\/)?(library\/python|python|parachutes\/python|canopy\/python|scratch)(:[\w.-]+)?$/;
const DEFAULT_WORKDIR = '/app';
const IGNORED = new Set(['MAINTAINER', 'LABEL', 'USER', 'EXPOSE']);

interface ImageState {
  job: BuildJob;
  root: string;
  tmpDir: string;
  workingDir: string;
  env: Record<string, string>;
  args: Record<string, string>;
  cmd: string[];
  entrypoint: string[];
  /** copies, to hold against the working directory that wins in the end */
  copied: { step: DockerfileStep; path: string }[];
}

/**
 * Builds without a container runtime: the subset of Dockerfile that needs no layers, steps run in a sandbox over a folder,
 * and the result is the tree of WORKDIR as an archive. What it cannot honour it refuses, naming line and instruction.
 */
export function createProcessBuilder(sandbox: Sandbox): ImageBuilder {
  return {
    form: 'process',
    containment: sandbox.description,
    storageDirs: [],
    async build(job): Promise<BuildOutput> {
      const steps = parseDockerfile(job.dockerfile);
      const root = join(job.dir, 'root');
      const tmpDir = join(job.dir, 'tmp');
      await mkdir(root, { mode: 0o755 });
      await mkdir(tmpDir);
      await chmod(tmpDir, 0o1777);
      const image: ImageState = {
        job,
        root,
        tmpDir,
        workingDir: DEFAULT_WORKDIR,
        env: {},
        args: {},
        cmd: [],
        entrypoint: [],
        copied: [],
      };
      const froms = steps.filter((step) => step.keyword === 'FROM');
      if (froms[1]) throw refuse(froms[1], 'several stages need a container runtime; this forge has none');
      await makeFolders(root, image.workingDir);
      for (const [index, step] of steps.entries()) {
        job.signal.throwIfAborted();
        await job.log.stage(`[${index + 1}/${steps.length}] ${step.keyword} ${step.text.slice(0, 200)}`, () =>
          apply(step, image, sandbox),
        );
      }
      return job.log.stage('archive the working directory', () => archive(image));
    },
    clean: ({ buildId }) => sweepBuild(buildId),
  };
}

async function apply(step: DockerfileStep, image: ImageState, sandbox: Sandbox): Promise<void> {
  const { job } = image;
  const variables = { ...image.args, ...image.env };
  if (step.heredoc) throw refuse(step, 'here-documents need a container runtime; this forge has none');
  switch (step.keyword) {
    case 'FROM': {
      const [base = ''] = expandWords(step.text, image.args);
      if (!KNOWN_BASE.test(base))
        throw refuse(
          step,
          `the base ${base} needs a container runtime; this forge has only python bases (python, parachutes/python, canopy/python, scratch)`,
        );
      job.log.note(`base ${base} is not pulled: this machine's own programs take its place`);
      image.args = {};
      return;
    }
    case 'ARG':
      for (const [name, value] of expandProperties(step, variables)) image.args[name] = value ?? image.args[name] ?? '';
      return;
    case 'ENV':
      for (const [name, value] of expandProperties(step, variables)) {
        if (!/^[A-Za-z_]\w*$/.test(name)) throw refuse(step, `${name} is no name of a variable`);
        image.env[name] = value ?? '';
      }
      return;
    case 'WORKDIR':
      image.workingDir = imagePath(step, posix.resolve(image.workingDir, expand(step.text, variables)));
      return makeFolders(image.root, image.workingDir);
    case 'COPY':
    case 'ADD':
      return copy(step, image, variables);
    case 'RUN':
      return runStep(step, image, sandbox);
    case 'CMD':
      image.cmd = step.exec ?? (step.text === '' ? [] : ['/bin/sh', '-c', step.text]);
      return;
    case 'ENTRYPOINT':
      image.entrypoint = step.exec ?? (step.text === '' ? [] : ['/bin/sh', '-c', step.text]);
      image.cmd = []; // as Docker does: a CMD before it was for the base's entry point
      return;
    default:
      if (!IGNORED.has(step.keyword))
        throw refuse(step, 'this instruction needs a container runtime; this forge has none');
      if (step.keyword === 'USER') job.log.note(`USER ${step.text} has no effect without a container runtime`);
  }
}

function imagePath(step: DockerfileStep, path: string): string {
  const host = HOST_DIRS.find((dir) => path === dir || path.startsWith(`${dir}/`));
  if (host || path === '/')
    throw refuse(step, `${path} belongs to the machine in this forge; use a folder such as ${DEFAULT_WORKDIR}`);
  return path;
}

async function copy(step: DockerfileStep, image: ImageState, variables: Record<string, string>): Promise<void> {
  let mode: number | null = null;
  for (const { name, value } of step.flags) {
    if (name === 'chmod' && /^[0-7]{3,4}$/.test(value ?? '')) mode = Number.parseInt(value ?? '', 8);
    else if (!['chown', 'link', 'keep-git-dir'].includes(name))
      throw refuse(step, `--${name} needs a container runtime; this forge has none`);
  }
  const words = step.exec ? step.exec.map((word) => expand(word, variables)) : expandWords(step.text, variables);
  const destination = words.at(-1);
  const sources = words.slice(0, -1);
  if (destination === undefined || sources.length === 0)
    throw refuse(step, 'expected at least one source and a destination');
  for (const source of sources) {
    if (/^([a-z][a-z0-9+.-]*:\/\/|git@)/i.test(source))
      throw refuse(step, 'addresses are not fetched by this forge; put the file into the build context');
    if (step.keyword === 'ADD' && /\.(tar|tgz|tbz2?|txz|tar\.\w+)$/i.test(source))
      throw refuse(step, 'archives are not unpacked by this forge; use COPY, or unpack them in a RUN');
  }
  const absolute = posix.resolve(image.workingDir, destination);
  const path = absolute === '/' ? '/' : imagePath(step, absolute);
  if (path === '/')
    throw refuse(step, `/ belongs to the machine in this forge; use a folder such as ${DEFAULT_WORKDIR}`);
  image.copied.push({ step, path });
  try {
    await copyInto({
      contextDir: image.job.contextDir,
      root: image.root,
      sources,
      destination: /(\/|^\.{1,2}|\/\.{1,2})$/.test(destination) ? `${path}/` : path,
      mode,
    });
  } catch (err) {
    throw err instanceof BuildFailure ? refuse(step, err.message) : err;
  }
}

async function runStep(step: DockerfileStep, image: ImageState, sandbox: Sandbox): Promise<void> {
  const flag = step.flags.find(({ name }) => name !== 'network');
  if (flag) throw refuse(step, `--${flag.name} needs a container runtime; this forge has none`);
  const { job } = image;
  const code = await sandbox.run({
    buildId: job.buildId,
    root: image.root,
    tmpDir: image.tmpDir,
    workingDir: image.workingDir,
    argv: step.exec ?? ['/bin/sh', '-c', step.text],
    env: { ...image.args, ...image.env },
    signal: job.signal,
    onLine: (type, line) => job.log.line(type, line),
  });
  if (code !== 0)
    throw refuse(
      step,
      code === null ? `${step.text.slice(0, 200)} was killed` : `${step.text.slice(0, 200)} returned ${code}`,
    );
}

/** The tree of WORKDIR as a reproducible archive: same files, same bytes. */
async function archive({ job, root, workingDir, env, entrypoint, cmd, copied }: ImageState): Promise<BuildOutput> {
  const outside = copied.find(({ path }) => path !== workingDir && !path.startsWith(`${workingDir}/`));
  if (outside)
    throw refuse(
      outside.step,
      `${outside.path} is outside of WORKDIR ${workingDir}, and this forge keeps only that; set WORKDIR or copy below it`,
    );
  await makeFolders(root, workingDir); // and not a link a step put in its place
  const cwd = join(root, workingDir);
  const file = join(job.dir, 'image.tar.gz');
  const names = (await readdir(cwd)).sort().map((name) => `./${name}`);
  await createTar(
    {
      file,
      cwd,
      gzip: { level: 1 },
      portable: true,
      mtime: new Date(0),
      follow: false,
      filter: (_path, entry) =>
        'isFile' in entry ? entry.isFile() || entry.isDirectory() || entry.isSymbolicLink() : true,
    },
    names.length > 0 ? names : ['.'],
  );
  job.signal.throwIfAborted();
  const lost = (await readdir(root)).filter(
    (name) => name !== workingDir.split('/')[1] && !HOST_DIRS.includes(`/${name}` as (typeof HOST_DIRS)[number]),
  );
  for (const name of lost) {
    if ((await lstat(join(root, name))).isDirectory() && (await readdir(join(root, name))).length > 0)
      job.log.note(`/${name} is not part of the image: only ${workingDir} is kept`);
  }
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  const relative = (text: string): string =>
    text === workingDir ? '.' : text.startsWith(`${workingDir}/`) ? `.${text.slice(workingDir.length)}` : text;
  return {
    kind: 'archive',
    file,
    sizeBytes: (await stat(file)).size,
    sha256: hash.digest('hex'),
    // The archive's root is the working directory, wherever it is unpacked: paths into it become relative.
    command: [...entrypoint, ...cmd].map(relative),
    workingDir: '/',
    env: Object.fromEntries(
      Object.entries(env).map(([name, value]) => [name, value.split(':').map(relative).join(':')]),
    ),
  };
}
