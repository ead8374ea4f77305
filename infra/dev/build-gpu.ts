import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findOnPath } from './toolchain.ts';

/**
 * Builds `graval` (gpu/) into `.canopy/tools/graval-<hash of sources and options>/`: what is already there is not built again.
 * Command line: `npm run build:gpu [-- --no-cuda]`; prints the program's path on stdout.
 */
const ROOT = join(import.meta.dirname, '../..');
const SOURCES = join(ROOT, 'gpu');
const run = promisify(execFile);

/** CUDA 13.0 from PyPI, for drivers of the 580 line and later: compiler and headers only, no driver. */
const CUDA_WHEELS = [
  'nvidia-cuda-nvcc==13.0.88',
  'nvidia-nvvm==13.0.88',
  'nvidia-cuda-crt==13.0.88',
  'nvidia-cuda-runtime==13.0.96',
  'nvidia-cuda-cccl==13.0.85',
];

export interface BuildGpu {
  toolsDir?: string;
  /** false: CPU reference and verifier only, about ten seconds; true: proves on NVIDIA GPUs too */
  cuda: boolean;
  report?: (message: string) => void;
}

/** Path of the built program. Throws a text that says what to install. */
export async function buildGpu({
  toolsDir = join(ROOT, '.canopy/tools'),
  cuda,
  report = () => {},
}: BuildGpu): Promise<string> {
  const dir = join(toolsDir, `graval-${await hashOfSources(cuda)}`);
  const program = join(dir, 'graval');
  if (await isFile(program)) return program;
  const [cmake, compiler] = await Promise.all([findOnPath('cmake'), findOnPath('g++')]);
  if (!cmake || !compiler) {
    const missing = [cmake ? '' : 'cmake', compiler ? '' : 'g++'].filter((name) => name !== '');
    throw new Error(`Missing for graval: ${missing.join(' ')}. Debian: apt-get install cmake g++ make.`);
  }
  await mkdir(toolsDir, { recursive: true });
  const nvcc = cuda ? await ensureNvcc(toolsDir, report) : null;
  const work = await mkdtemp(join(toolsDir, 'graval-build-'));
  try {
    report(`building graval ${cuda ? 'with CUDA' : 'without CUDA'} into ${dir}`);
    await command(cmake, [
      '-S',
      SOURCES,
      '-B',
      work,
      '-DCMAKE_BUILD_TYPE=Release',
      '-DBUILD_TESTING=OFF',
      ...cudaOptions(nvcc),
    ]);
    await command(cmake, ['--build', work, '--target', 'graval', '--parallel', String(availableParallelism())]);
    const finished = join(work, 'finished');
    await mkdir(finished);
    await copyFile(join(work, 'graval'), join(finished, 'graval'));
    await rename(finished, dir).catch(async (err: NodeJS.ErrnoException) => {
      if (err.code !== 'ENOTEMPTY' && err.code !== 'EEXIST') throw err; // another build finished first
    });
    return program;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** nvcc on PATH (or where CUDA_HOME says), else the pinned wheels in a folder of our own. */
async function ensureNvcc(
  toolsDir: string,
  report: (message: string) => void,
): Promise<{ nvcc: string; libraries: string | null }> {
  const home = process.env.CUDA_HOME ? join(process.env.CUDA_HOME, 'bin') : '/usr/local/cuda/bin';
  const found = (await findOnPath('nvcc')) ?? (await findOnPath('nvcc', home));
  if (found) return { nvcc: found, libraries: null };
  const dir = join(toolsDir, `cuda-${CUDA_WHEELS[0]?.split('==')[1]}`);
  const toolkit = join(dir, 'nvidia/cu13');
  const nvcc = { nvcc: join(toolkit, 'bin/nvcc'), libraries: join(toolkit, 'lib') };
  if (await isFile(join(dir, '.done'))) return nvcc;
  const python = (await findOnPath('python3')) ?? (await findOnPath('python'));
  if (!python)
    throw new Error(
      'Missing for CUDA: nvcc, or python3 with pip to install it. Without a GPU: npm run build:gpu -- --no-cuda',
    );
  report(`installing the CUDA 13.0 compiler (about 300 MB) into ${dir}`);
  const partial = `${dir}.partial-${process.pid}`;
  try {
    await command(python, [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--disable-pip-version-check',
      '--no-deps',
      '--only-binary=:all:',
      '--target',
      partial,
      ...CUDA_WHEELS,
    ]);
    await writeFile(join(partial, '.done'), '');
    await rename(partial, dir).catch(async (err: NodeJS.ErrnoException) => {
      if (err.code !== 'ENOTEMPTY' && err.code !== 'EEXIST') throw err;
    });
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
  return nvcc;
}

function cudaOptions(cuda: { nvcc: string; libraries: string | null } | null): string[] {
  if (!cuda) return ['-DGRAVAL_CUDA=OFF'];
  const options = ['-DGRAVAL_CUDA=ON', `-DCMAKE_CUDA_COMPILER=${cuda.nvcc}`];
  return cuda.libraries ? [...options, `-DCMAKE_CUDA_FLAGS=-L${cuda.libraries}`] : options;
}

/** Twelve hex digits over every source file, the options and this build's own recipe. */
async function hashOfSources(cuda: boolean): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([cuda, cuda ? CUDA_WHEELS : [], process.arch]));
  for (const part of ['CMakeLists.txt', 'include', 'kernels', 'reference', 'tools']) {
    for (const file of await filesOf(join(SOURCES, part)))
      hash
        .update(`${file.slice(SOURCES.length)}\0`)
        .update(await readFile(file))
        .update('\0');
  }
  return hash.digest('hex').slice(0, 12);
}

async function filesOf(path: string): Promise<string[]> {
  if ((await stat(path)).isFile()) return [path];
  const names = (await readdir(path)).toSorted();
  return (await Promise.all(names.map((name) => filesOf(join(path, name))))).flat();
}

/** Fails with the tool's own last lines. */
async function command(program: string, args: string[]): Promise<void> {
  try {
    await run(program, args, { maxBuffer: 64 * 1024 ** 2 });
  } catch (err) {
    const { stdout = '', stderr = '' } = err as { stdout?: string; stderr?: string };
    throw new Error(`${program} failed:\n${`${stdout}\n${stderr}`.trim().split('\n').slice(-25).join('\n')}`, {
      cause: err,
    });
  }
}

const isFile = (path: string): Promise<boolean> =>
  stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );

if (import.meta.main) {
  const cuda = !process.argv.includes('--no-cuda');
  const report = (message: string) => void process.stderr.write(`${message}\n`);
  await buildGpu({ cuda, report }).then(
    (program) => process.stdout.write(`${program}\n`),
    (err: unknown) => {
      process.stderr.write(`${(err as Error).message}\n`);
      process.exitCode = 1;
    },
  );
}
