import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execFileSync } from 'node:child_process';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import { list } from 'tar';
import type { BuildLogLine } from '../../../workflows/domain/images/build-log.ts';
import type { BuildOrder, BuildResult } from '../../../workflows/domain/images/build-result.ts';
import { createLogger } from '../../clients/log.ts';
import { createForgeActivities } from './forge-activities.ts';
import { createProcessBuilder } from './process-builder.ts';
import { bwrapSandbox, chooseSandbox, plainSandbox, type SandboxOptions } from './sandbox.ts';
import { sha256Of, testBlobs, zipOf } from './testing.ts';
import { markedProcesses, openWorkspace, type Workspace } from './workspace.ts';

const blobs = testBlobs();
const limits = { maxBytes: 30_000_000, memoryMb: 512, cpus: 1, pids: 64 };
const options: SandboxOptions = { network: 'none', mounts: [], memoryMb: 512, pids: 64, maxFileBytes: 30_000_000 };
const hasBwrap = (await chooseSandbox(options)).kind === 'bwrap';
let workDir: string;
let workspace: Workspace;
beforeEach(async () => {
  workDir = await mkdtemp(join(tmpdir(), 'forge-'));
  workspace = await openWorkspace(workDir);
});
afterEach(() => rm(workDir, { recursive: true, force: true }));
afterAll(() => blobs.close());

let images = 0;
async function order(
  dockerfile: string,
  files: Record<string, string> = { 'app.py': 'print(1)\n' },
  deadlineMs = 20_000,
): Promise<BuildOrder> {
  const context = await blobs.putByContent('test/contexts', await zipOf(files));
  const stored = await blobs.putByContent('test/dockerfiles', dockerfile);
  return {
    imageId: `00000000-0000-4000-8000-${String(++images).padStart(12, '0')}`,
    userId: 'u1',
    username: 'alice',
    name: 'app',
    tag: 'v1',
    contextKey: context.key,
    contextSha256: context.sha256,
    dockerfileKey: stored.key,
    dockerfileSha256: stored.sha256,
    deadlineMs,
  };
}

function forge(sandbox: 'bwrap' | 'plain') {
  const lines: BuildLogLine[] = [];
  const activities = createForgeActivities({
    builder: createProcessBuilder(sandbox === 'bwrap' ? bwrapSandbox(options) : plainSandbox(options, true)),
    workspace,
    blobs,
    limits,
    images: { markBuilding: async () => true },
    logs: { append: async (_id, added) => void lines.push(...added) },
    log: createLogger('test', 'error'),
  });
  const environment = new MockActivityEnvironment();
  return {
    lines,
    environment,
    text: () => lines.map((line) => line.log).join('\n'),
    build: (input: BuildOrder): Promise<BuildResult> =>
      environment.run((given: BuildOrder) => activities.buildImage(given), input),
  };
}

/** Nothing of any build of this workspace: no process, no cgroup, no file. */
async function expectNothingLeft(): Promise<void> {
  expect(await markedProcesses(workspace.id)).toEqual([]);
  expect(await readdir(workspace.dir)).toEqual([]);
}

async function archiveOf(result: BuildResult): Promise<string[]> {
  if (result.kind !== 'built' || result.artifact.kind !== 'archive') throw new Error(JSON.stringify(result));
  const bytes = await blobs.get(result.artifact.key);
  expect(sha256Of(bytes ?? '')).toBe(result.artifact.sha256);
  const path = join(workDir, 'check.tar.gz');
  await writeFile(path, bytes ?? '');
  const names: string[] = [];
  await list({ file: path, onReadEntry: (entry) => void names.push(entry.path) });
  await rm(path);
  return names.sort();
}

describe.each(hasBwrap ? (['bwrap', 'plain'] as const) : (['plain'] as const))('process form in %s', (sandbox) => {
  test('an honoured Dockerfile becomes an archive of its working directory, the same one each time', async () => {
    const input = await order(
      'ARG V=3.12\nFROM parachutes/python:${V}\nARG WORD=hello\nENV GREETING="$WORD world" PYTHONPATH=/app/lib:/opt\nWORKDIR /app\nCOPY *.py lib /app/\nADD lib/a.txt sub/\n' +
        'RUN mkdir made && echo "$GREETING" > made/out && cat made/out\nRUN ["sh", "-c", "echo two"]\nLABEL a=b\nEXPOSE 80\nENTRYPOINT ["python3"]\nCMD ["/app/app.py"]\n',
      { 'app.py': 'print(1)\n', 'lib/a.txt': 'a' },
    );
    const first = forge(sandbox);
    const result = await first.build(input);
    expect(await archiveOf(result)).toEqual(['./a.txt', './app.py', './made/', './made/out', './sub/', './sub/a.txt']);
    expect(result).toMatchObject({
      artifact: {
        command: ['python3', './app.py'],
        workingDir: '/',
        env: { GREETING: 'hello world', PYTHONPATH: './lib:/opt' },
      },
    });
    expect(first.text()).toMatch(/hello world[^]*\ntwo\n/);
    expect(first.text()).toMatch(/\[8\/13\] RUN .*: [0-9.]+ s/);
    expect(await forge(sandbox).build(input)).toEqual(result);
    await expectNothingLeft();
  });

  test('a step that fails ends the build with its line, instruction and code', async () => {
    const { build, text } = forge(sandbox);
    expect(await build(await order('FROM python:3.12\nRUN echo oh no >&2; exit 3\n'))).toEqual({
      kind: 'failed',
      reason: 'Dockerfile line 2: RUN: echo oh no >&2; exit 3 returned 3',
    });
    expect(text()).toContain('oh no');
    await expectNothingLeft();
  });

  test('a build that runs too long is killed with everything it started', async () => {
    const { build } = forge(sandbox);
    expect(
      await build(await order('FROM scratch\nRUN (setsid sleep 1000 &) ; sleep 1000 & sleep 1000\n', {}, 1_000)),
    ).toEqual({ kind: 'failed', reason: 'build ran longer than 1 s' });
    await expectNothingLeft();
  });

  test('a build that writes too much is stopped', async () => {
    const { build } = forge(sandbox);
    const result = await build(
      await order('FROM scratch\nRUN i=0; while true; do i=$((i+1)); head -c 4000000 /dev/zero > f$i; done\n', {}),
    );
    expect(result).toEqual({ kind: 'failed', reason: 'build wrote more than 30000000 bytes' });
    const one = await build(await order('FROM scratch\nRUN head -c 40000000 /dev/zero > one; sleep 5\n', {}));
    expect(one).toMatchObject({ kind: 'failed' });
    await expectNothingLeft();
  });

  test('endless output is cut, dropped and noted, and does not hold the build up', async () => {
    const { build, lines, text } = forge(sandbox);
    expect(
      await build(
        await order(
          'FROM scratch\nRUN seq 1 200000; head -c 3000000 /dev/zero | tr "\\\\0" x; echo; sleep 1.1; echo end\n',
          {},
        ),
      ),
    ).toMatchObject({ kind: 'built' });
    expect(lines.length).toBeLessThan(8_000);
    expect(text()).toMatch(/lines left out/);
    expect(Math.max(...lines.map((line) => line.log.length))).toBeLessThan(9_000);
  });

  test('cancelling kills the build at once and reports the cancel', async () => {
    const { build, environment, text } = forge(sandbox);
    const running = build(await order('FROM scratch\nRUN echo started; sleep 1000\n', {}));
    const outcome = running.then(
      () => 'ended',
      (err: unknown) => String(err),
    );
    for (;;) {
      if (text().includes('\nstarted')) break;
      await new Promise((wake) => setTimeout(wake, 20));
    }
    environment.cancel();
    expect(await outcome).toContain('Cancel');
    await expectNothingLeft();
  });

  test('nothing of the forge is in the environment of a step', async () => {
    process.env.CANOPY_PLANTED = 'secret-of-the-forge';
    const { build, text } = forge(sandbox);
    await build(await order('FROM scratch\nRUN env; cat /proc/self/environ | tr "\\\\0" "\\\\n"\n', {}));
    delete process.env.CANOPY_PLANTED;
    expect(text()).toContain('PATH=');
    expect(text()).not.toContain('secret-of-the-forge');
  });

  test('a link that a step plants is not followed by a later copy', async () => {
    const { build } = forge(sandbox);
    const result = await build(await order(`FROM scratch\nRUN ln -s ${workDir} out\nCOPY app.py out/\n`));
    expect(result).toMatchObject({ kind: 'failed', reason: expect.stringContaining('line 3: COPY') });
    expect(await readdir(workDir)).toEqual(['forge']);
  });
});

test.each([
  ['FROM ubuntu:22.04', /line 1: FROM: the base ubuntu:22.04/],
  ['FROM python:3\nFROM python:3', /line 2: FROM: several stages/],
  ['FROM python:3\nHEALTHCHECK NONE', /line 2: HEALTHCHECK/],
  ['FROM python:3\nVOLUME /x', /line 2: VOLUME/],
  ['FROM python:3\nRUN <<EOF\nx\nEOF', /here-documents/],
  ['FROM python:3\nADD https://a/b /app/', /addresses are not fetched/],
  ['FROM python:3\nADD x.tar.gz /app/', /archives are not unpacked/],
  ['FROM python:3\nCOPY --from=x a b', /--from/],
  ['FROM python:3\nRUN --mount=type=cache true', /--mount/],
  ['FROM python:3\nCOPY app.py /usr/lib/', /belongs to the machine/],
  ['FROM python:3\nCOPY app.py /opt/x/', /outside of WORKDIR/],
  ['FROM python:3\nCOPY nothing /app/', /not in the build context/],
  ['FROM python:3\nCOPY ../../etc/passwd /app/', /not in the build context/],
])('the process form refuses %j by line and instruction', async (dockerfile, reason) => {
  const result = await forge('plain').build(await order(dockerfile));
  expect(result).toMatchObject({ kind: 'failed', reason: expect.stringMatching(reason) });
  await expectNothingLeft();
});

test('a fault of the host is thrown, for another attempt', async () => {
  const input = await order('FROM scratch');
  await expect(forge('plain').build({ ...input, contextKey: 'test/missing' })).rejects.toThrow('missing');
  await expect(forge('plain').build({ ...input, contextSha256: '0'.repeat(64) })).rejects.toThrow(
    'not what was uploaded',
  );
  await expectNothingLeft();
});

test('what a killed forge left, processes and files, is removed by the next attempt', async () => {
  // A process that outlived its forge: marked, with an owner that does not exist.
  const owner = `${2 ** 22 + 1}-1`;
  const { spawn } = await import('node:child_process');
  const orphan = spawn('sleep', ['1000'], {
    env: { PATH: process.env.PATH ?? '', CANOPY_FORGE_BUILD: `${owner}-x` },
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => orphan.once('exit', (_code, signal) => resolve(signal)));
  execFileSync('mkdir', ['-p', join(workDir, 'forge', owner, 'half-built')]);
  expect(await forge('plain').build(await order('FROM scratch\nRUN true', {}))).toMatchObject({ kind: 'built' });
  expect(await ended).toBe('SIGKILL');
  expect(await readdir(join(workDir, 'forge'))).toEqual([workspace.id]);
});
