import { execFileSync, spawn } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import getPort from 'get-port';
import type { BuildLogLine } from '../../../workflows/domain/images/build-log.ts';
import { createBuildahBuilder } from './buildah-builder.ts';
import type { BuildOutput, ImageBuilder } from './builder.ts';
import { BuildLogWriter } from './log-writer.ts';
import { markedProcesses, openWorkspace, type Workspace } from './workspace.ts';

const has = (program: string): boolean => {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`]);
    return true;
  } catch {
    return false;
  }
};
const usable = process.getuid?.() === 0 && ['buildah', 'runc', 'unshare', 'setpriv', 'docker-registry'].every(has);

/** Programs of this machine with their libraries: a base that needs no registry. */
async function makeBase(dir: string): Promise<void> {
  for (const program of ['/bin/sh', '/bin/sleep', '/bin/cat', '/bin/head', '/usr/bin/env']) {
    const libraries = execFileSync('ldd', [program], { encoding: 'utf8' }).match(/\/lib\S+/g) ?? [];
    for (const file of [program, ...libraries]) {
      const to = join(dir, file);
      await mkdir(dirname(to), { recursive: true });
      await cp(file, to, { dereference: true });
      await chmod(to, 0o755);
    }
  }
}

describe.each(usable ? ['buildah and runc of this machine'] : [])('buildah form with %s', () => {
  let dir: string;
  let workspace: Workspace;
  let registry: ReturnType<typeof spawn>;
  let host: string;
  let builder: ImageBuilder;
  let contextDir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'buildah-'));
    workspace = await openWorkspace(dir);
    host = `127.0.0.1:${await getPort({ host: '127.0.0.1' })}`;
    await writeFile(
      join(dir, 'registry.yml'),
      `version: 0.1\nstorage: {filesystem: {rootdirectory: ${dir}/registry}}\nhttp: {addr: '${host}'}\n`,
    );
    registry = spawn('docker-registry', ['serve', join(dir, 'registry.yml')], { stdio: 'ignore' });
    for (;;) {
      if ((await fetch(`http://${host}/v2/`).catch(() => null))?.ok) break;
    }
    const containersConf = join(dir, 'containers.conf');
    await writeFile(containersConf, '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n');
    contextDir = join(dir, 'context');
    await makeBase(join(contextDir, 'base'));
    builder = await createBuildahBuilder({
      storageDir: join(workspace.dir, 'storage'),
      registry: host,
      insecure: true,
      network: 'none',
      mounts: [],
      limits: { maxBytes: 200_000_000, memoryMb: 256, cpus: 1, pids: 64 },
      env: { CONTAINERS_CONF: containersConf, CANOPY_PLANTED: 'secret-of-the-forge' },
    });
  }, 60_000);
  afterAll(async () => {
    registry.kill();
    await rm(dir, { recursive: true, force: true });
  });

  async function build(
    dockerfile: string,
    signal: AbortSignal = new AbortController().signal,
    onStart: (text: () => string) => void = () => {},
  ) {
    const lines: BuildLogLine[] = [];
    const log = new BuildLogWriter({ append: async (_id, added) => void lines.push(...added) }, 'i', 1);
    const attempt = await workspace.attempt('image');
    const text = () => lines.map((line) => line.log).join('\n');
    onStart(text);
    try {
      const output: BuildOutput = await builder.build({
        ...attempt,
        imageId: 'i',
        username: 'Alice',
        name: 'app',
        tag: 'v1',
        contextDir,
        dockerfile,
        log,
        signal,
      });
      await log.close();
      return { output, text: text() };
    } finally {
      await builder.clean(attempt);
      await rm(attempt.dir, { recursive: true, force: true });
      expect(await markedProcesses(attempt.buildId)).toEqual([]);
      expect(await readFile('/proc/self/mounts', 'utf8')).not.toContain(dir);
      expect(await readdir('/sys/fs/cgroup/pids/canopy-forge').catch(() => [])).not.toContain(attempt.buildId);
      expect((await readdir(workspace.dir)).filter((name) => name !== 'storage')).toEqual([]);
    }
  }

  test('an image is built without network or our environment, pushed, and described by its digest', async () => {
    const { output, text } = await build(
      'FROM scratch\nADD base /\nENV A="b c"\nWORKDIR /app\nRUN env; cat /proc/net/dev\nENTRYPOINT ["/bin/sh"]\nCMD ["-c", "env"]\n',
    );
    expect(output).toMatchObject({
      kind: 'oci',
      artifact: {
        reference: `${host}/alice/app:v1`,
        digest: expect.stringMatching(/^sha256:/),
        command: ['/bin/sh', '-c', 'env'],
        workingDir: '/app',
        env: { A: 'b c' },
      },
    });
    expect(text).not.toContain('secret-of-the-forge');
    expect(text).not.toContain('eth0');
    const digest = output.kind === 'oci' ? output.artifact.digest : '';
    expect(
      (await fetch(`http://${host}/v2/alice/app/manifests/${digest}`, { headers: { accept: '*/*' } })).status,
    ).toBe(200);
  }, 60_000);

  test("a failing step is the user's failure, with its message", async () => {
    await expect(build('FROM scratch\nADD base /\nRUN exit 5\n')).rejects.toMatchObject({
      name: 'BuildFailure',
      message: expect.stringMatching(/exit 5.*status 5/),
    });
  }, 60_000);

  test('stopping a build kills its container and unmounts its layers', async () => {
    const stop = new AbortController();
    const outcome = build(
      'FROM scratch\nADD base /\nRUN echo up; (sleep 1000 &); sleep 1000\n',
      stop.signal,
      (text) => {
        const poll = setInterval(() => {
          if (!/^up$/m.test(text())) return;
          clearInterval(poll);
          stop.abort(new Error('told to stop'));
        }, 50);
      },
    );
    await expect(outcome).rejects.toThrow('told to stop');
  }, 60_000);
});

test('a forge without buildah does not start, and says why', async () => {
  const storageDir = await mkdtemp(join(tmpdir(), 'no-buildah-'));
  const options = {
    storageDir,
    registry: 'r',
    insecure: false,
    mounts: [],
    limits: { maxBytes: 1, memoryMb: 1, cpus: 1, pids: 1 },
    env: {},
  };
  const started = createBuildahBuilder({ ...options, network: 'host', path: storageDir });
  await expect(started).rejects.toThrow('buildah is not usable');
  await rm(storageDir, { recursive: true });
});
