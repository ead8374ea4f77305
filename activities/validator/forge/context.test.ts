import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { BuildFailure } from './build-failure.ts';
import { extractContext, inspectContext } from './context.ts';
import { renamed, zipOf } from './testing.ts';

const limits = { maxEntries: 20, maxBytes: 1_000_000 };
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'context-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function store(zip: Buffer): Promise<string> {
  const path = join(dir, 'context.zip');
  await writeFile(path, zip);
  return path;
}
const link = (content: string) => ({ mode: 0o120777, content });

test('files, folders, executables and links that stay inside are unpacked as they were', async () => {
  const zip = await zipOf({
    'a/app.py': 'print(1)',
    'run.sh': { mode: 0o100755, content: '#!/bin/sh' },
    'a/same.py': link('app.py'),
    'b/up': link('../a/app.py'),
  });
  const into = join(dir, 'out');
  await mkdir(into);
  expect(await extractContext(await store(zip), into, limits)).toEqual({ entries: 4, bytes: 34 });
  expect(await readFile(join(into, 'b/up'), 'utf8')).toBe('print(1)');
  expect(await readlink(join(into, 'a/same.py'))).toBe('app.py');
  expect((await stat(join(into, 'run.sh'))).mode & 0o111).toBeTruthy();
});

test.each<[string, () => Promise<Buffer>, RegExp]>([
  [
    'a name that climbs out',
    async () => renamed(await zipOf({ 'xx/evil': '1' }), 'xx/evil', '../evil'),
    /unsafe|invalid/,
  ],
  ['an absolute name', async () => renamed(await zipOf({ xevil: '1' }), 'xevil', '/evil'), /unsafe|invalid|absolute/],
  [
    'a climb in the middle',
    async () => renamed(await zipOf({ 'a/xx/xx/e': '1' }), 'a/xx/xx/e', 'a/../../e'),
    /unsafe|invalid/,
  ],
  [
    'a backslash name',
    async () => renamed(await zipOf({ xxxevil: '1' }), 'xxxevil', String.raw`..\evil`),
    /unsafe|invalid/,
  ],
  ['an absolute link', () => zipOf({ l: link('/etc/passwd') }), /link that leaves/],
  ['a link that climbs out', () => zipOf({ 'a/l': link('../../etc/passwd') }), /link that leaves/],
  ['a climb behind another link', () => zipOf({ here: link('.'), l: link('here/../x') }), /link that leaves/],
  ['an empty link', () => zipOf({ l: link('') }), /link that leaves/],
  ['a device', () => zipOf({ d: { mode: 0o020644, content: '' } }), /neither file/],
  ['one name twice', async () => renamed(await zipOf({ aa: '1', ab: '2' }), 'ab', 'aa'), /twice/],
  [
    'too many entries',
    () => zipOf(Object.fromEntries(Array.from({ length: 21 }, (_, index) => [`f${index}`, '']))),
    /21 entries/,
  ],
  ['a bomb', () => zipOf({ zeros: Buffer.alloc(1_000_001) }), /more than 1000000 bytes/],
  ['bytes that are no archive', async () => Buffer.from('PK not really'), /not usable/],
  ['an archive cut short', async () => (await zipOf({ a: '1'.repeat(5_000) })).subarray(0, 60), /not usable/],
])('%s is refused with a message for the user, and nothing is left outside', async (_, make, message) => {
  const path = await store(await make());
  const into = join(dir, 'x', 'out');
  await mkdir(into, { recursive: true });
  await expect(inspectContext(path, limits)).rejects.toThrow(message);
  const failure: unknown = await extractContext(path, into, limits).catch((err: unknown) => err);
  expect(failure).toBeInstanceOf(BuildFailure);
  expect(await readdir(dir)).toEqual(['context.zip', 'x']);
  expect(await readdir(join(dir, 'x'))).toEqual(['out']);
});

test('a member larger than the archive says is stopped at what it said', async () => {
  const zip = await zipOf({ big: Buffer.alloc(500_000) });
  for (const signature of ['PK\u0001\u0002', 'PK\u0003\u0004']) {
    const at = zip.indexOf(Buffer.from(signature, 'latin1'));
    zip.writeUInt32LE(10, at + (signature.charCodeAt(2) === 1 ? 24 : 22)); // uncompressed size
  }
  const into = join(dir, 'out');
  await mkdir(into);
  await expect(extractContext(await store(zip), into, limits)).rejects.toThrow(BuildFailure);
});

test('a name below a link is refused', async () => {
  const zip = await zipOf({ p: link('q'), 'p/x': 'evil' });
  const into = join(dir, 'out');
  await mkdir(into);
  await expect(extractContext(await store(zip), into, limits)).rejects.toThrow(BuildFailure);
});
