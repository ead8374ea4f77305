import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { prepareProver } from './native-prover.ts';

let dir: string;
beforeAll(async () => void (dir = await mkdtemp(join(tmpdir(), 'canopy-native-'))));
afterAll(() => rm(dir, { recursive: true, force: true }));

/** With only these programs on PATH. */
async function prepare(programs: Record<string, string>, native = true) {
  const bin = await mkdtemp(join(dir, 'bin-'));
  for (const [name, body] of Object.entries(programs))
    await writeFile(join(bin, name), `#!/bin/sh\n${body}\n`, { mode: 0o755 });
  const { PATH } = process.env;
  process.env.PATH = bin;
  try {
    return await prepareProver({ native, toolsDir: join(dir, 'tools'), logFile: join(dir, 'build.log') });
  } finally {
    process.env.PATH = PATH;
  }
}

test('without a compiler TypeScript proves, and the line says what to install', async () => {
  expect(await prepare({})).toEqual({
    graval: null,
    why: 'TypeScript: Missing for graval: cmake g++. Debian: apt-get install cmake g++ make.',
  });
});

test('a build that fails is a line that names its log, not an end', async () => {
  const broken = { cmake: 'echo "no such generator" >&2; exit 1', 'g++': '' };
  expect(await prepare(broken)).toEqual({
    graval: null,
    why: expect.stringMatching(/^TypeScript: .+cmake failed; what it said is in .+build\.log$/),
  });
  expect(await readFile(join(dir, 'build.log'), 'utf8')).toContain('no such generator');
});

test('asked not to, it builds nothing', async () => {
  expect(await prepare({}, false)).toEqual({ graval: null, why: 'TypeScript, as asked for with --no-native' });
});
