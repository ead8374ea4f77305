import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findOnPath } from '../toolchain.ts';
import { Rootfs } from './rootfs.ts';

export { writeContainerConfig } from './container-config.ts';

const run = promisify(execFile);
const IMAGE = 'parachutes/python';
const TAG = '3.12'; // the SDK's default base (spec/sdk-and-runtime.md §2.1)
const PROGRAMS = [
  'sh',
  'bash',
  'env',
  'cat',
  'cp',
  'mv',
  'rm',
  'mkdir',
  'rmdir',
  'ls',
  'ln',
  'chmod',
  'chown',
  'echo',
  'printf',
  'test',
  '[',
  'true',
  'false',
  'sleep',
  'id',
  'head',
  'tail',
  'sort',
  'uniq',
  'tr',
  'cut',
  'wc',
  'touch',
  'dirname',
  'basename',
  'readlink',
  'realpath',
  'pwd',
  'date',
  'uname',
  'whoami',
  'tee',
  'dd',
  'du',
  'sha256sum',
  'base64',
  'mktemp',
  'seq',
  'timeout',
  'nproc',
  'grep',
  'sed',
  'find',
  'xargs',
  'tar',
  'gzip',
];
const NOT_NEEDED =
  /^(__pycache__|site-packages|dist-packages|test|tests|idlelib|turtledemo|tkinter|lib2to3|config-.*|.*\.a)$/;

/**
 * The base `parachutes/python:3.12`, for machines that reach no public registry: this machine's Python with its standard
 * library, a shell and small tools, pushed to the local registry. Where it is already there, nothing is done.
 */
export async function ensureBaseImage({
  registry,
  env,
}: {
  registry: string;
  dir: string;
  env: Record<string, string>;
}): Promise<void> {
  const manifest = await fetch(`http://${registry}/v2/${IMAGE}/manifests/${TAG}`, {
    headers: {
      accept: 'application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json',
    },
  });
  await manifest.body?.cancel();
  if (manifest.ok) return;
  const work = await mkdtemp(join(tmpdir(), 'canopy-base-'));
  try {
    await mkdir(join(work, 'rootfs'));
    const version = await fillRootfs(new Rootfs(join(work, 'rootfs')));
    await writeFile(
      join(work, 'Dockerfile'),
      [
        'FROM scratch',
        'COPY rootfs/ /',
        'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1',
        `LABEL canopy.base=local canopy.python=${version}`, // the tag says what it stands in for, the label what it is
        'WORKDIR /app',
        'CMD ["python3"]',
      ].join('\n'),
    );
    const reference = `${registry}/${IMAGE}:${TAG}`;
    const options = { env: { ...process.env, ...env }, maxBuffer: 16 * 1024 * 1024 };
    await run('buildah', ['bud', '--quiet', '--layers=false', '--isolation', 'chroot', '-t', reference, work], options);
    await run('buildah', ['push', '--quiet', '--tls-verify=false', reference, `docker://${reference}`], options);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function fillRootfs(rootfs: Rootfs): Promise<string> {
  await rootfs.prepare();
  for (const name of PROGRAMS) {
    const path = await findOnPath(name, '/usr/bin:/bin');
    if (path) await rootfs.addBinary(path);
  }
  // The injected runtime is a Node: glibc images usually have what it links to, this one must be given it.
  await rootfs.addBinary(process.execPath);
  await rm(join(rootfs.dir, process.execPath));
  const { executable, stdlib, version } = await describePython();
  await rootfs.addBinary(executable);
  await rootfs.addFolder(stdlib, (name) => NOT_NEEDED.test(name));
  const modules = join(stdlib, 'lib-dynload');
  for (const name of await readdir(modules)) if (name.endsWith('.so')) await rootfs.addBinary(join(modules, name));
  for (const name of ['python3', 'python']) await rootfs.link(`usr/local/bin/${name}`, executable);
  for (const path of ['/etc/ssl/certs/ca-certificates.crt', '/etc/mime.types'])
    await rootfs.addFile(path).catch(() => undefined);
  return version;
}

interface Python {
  executable: string;
  stdlib: string;
  version: string;
}

/** The system's Python before one of a version manager: its files have the usual places. */
async function describePython(): Promise<Python> {
  const python = (await findOnPath('python3', '/usr/bin:/usr/local/bin')) ?? (await findOnPath('python3'));
  if (!python) throw new Error('Missing: python3 (>= 3.9)');
  const script =
    'import json,os,platform,sys,sysconfig; print(json.dumps({"executable": os.path.realpath(sys.executable), "stdlib": sysconfig.get_paths()["stdlib"], "version": platform.python_version()}))';
  const { stdout } = await run(python, ['-I', '-c', script]);
  return JSON.parse(stdout) as Python;
}
