import { createHash } from 'node:crypto';
import { copyFile, cp, link, mkdir, readFile, realpath, rename, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const ENTRIES = ['api/instance/main.ts'];

/**
 * Builds the folder that is mounted into every container as `RUNTIME_MOUNT`: `node`, the binary, and `app/`, the instance
 * runtime's own files and the packages they import, found by following imports. Named by its content: the same sources
 * give the same folder, made once. Returns its path.
 */
export async function buildRuntimeBundle(cacheDir: string, entries: readonly string[] = ENTRIES): Promise<string> {
  const { files, packages } = await reach(entries.map((entry) => join(ROOT, entry)));
  const dir = join(resolve(cacheDir), `runtime-${await digestOf(files, packages)}`);
  if (await exists(join(dir, 'node'))) return dir;
  const partial = `${dir}.partial-${process.pid}`;
  await rm(partial, { recursive: true, force: true });
  for (const file of files) await copyInto(join(partial, 'app'), file);
  for (const from of packages)
    await cp(from, join(partial, 'app', relative(ROOT, from)), { recursive: true, filter: isNeeded });
  await copyFile(join(ROOT, 'package.json'), join(partial, 'app', 'package.json')); // "type": "module"
  const binary = await realNode();
  await link(binary, join(partial, 'node')).catch(() => copyFile(binary, join(partial, 'node'))); // another file system
  try {
    await rename(partial, dir);
  } catch (err) {
    if (!(await exists(join(dir, 'node')))) throw err; // else another start finished first
    await rm(partial, { recursive: true, force: true });
  }
  return dir;
}

/** Every source file and package folder that the entries reach. */
async function reach(entries: readonly string[]): Promise<{ files: string[]; packages: string[] }> {
  const files = new Set<string>();
  const packages = new Set<string>();
  const queue = [...entries];
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (files.has(file)) continue;
    files.add(file);
    for (const specifier of importsOf(await readFile(file, 'utf8'))) {
      if (specifier.startsWith('.')) queue.push(resolve(dirname(file), specifier));
      else if (!specifier.startsWith('node:')) await addPackage(nameOf(specifier), file, packages);
    }
  }
  return { files: [...files].sort(), packages: [...packages].sort() };
}

/** Imports that are still there once the types are stripped, and files named to `new URL(…, import.meta.url)`. */
function importsOf(source: string): string[] {
  const code = source.replaceAll(/^\s*(\/\/|\*|\/\*\*).*$/gm, '');
  const found = [
    ...code.matchAll(/^\s*(?:import|export)\s+(?!type\b)(?:[^'";]*?\sfrom\s+)?'([^']+)'/gm),
    ...code.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g),
    ...code.matchAll(/new URL\(\s*'(\.[^']+\.ts)',\s*import\.meta\.url/g),
    ...code.matchAll(/join\(\s*import\.meta\.dirname,\s*'([^']+\.ts)'\s*\)/g),
  ].map((match) => match[1] ?? '');
  return found.map((specifier) => (/^[^.@a-z]|^[^.]*\.ts$/.test(specifier) ? `./${specifier}` : specifier));
}

const nameOf = (specifier: string): string =>
  specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');

/** A package and what it depends on, each from the folder Node would load it from. */
async function addPackage(name: string, importer: string, packages: Set<string>): Promise<void> {
  const dir = await packageDir(name, importer);
  if (dir === null || packages.has(dir)) return;
  packages.add(dir);
  const { dependencies = {} } = JSON.parse(await readFile(join(dir, 'package.json'), 'utf8')) as {
    dependencies?: Record<string, string>;
  };
  for (const dependency of Object.keys(dependencies)) await addPackage(dependency, join(dir, 'package.json'), packages);
}

async function packageDir(name: string, importer: string): Promise<string | null> {
  for (const folder of createRequire(importer).resolve.paths(name) ?? []) {
    const dir = join(folder, name);
    if (await exists(join(dir, 'package.json'))) return dir;
  }
  return null; // an optional dependency that is not installed here
}

/** Sources for debuggers, types, other module systems' copies of nothing we load: half of the size. */
const isNeeded = (path: string): boolean =>
  !/\.(map|md|d\.ts|d\.cts|d\.mts)$|\/(test|tests|docs|example|examples|benchmark|benchmarks|\.github)$/.test(path);

async function digestOf(files: readonly string[], packages: readonly string[]): Promise<string> {
  const hash = createHash('sha256').update(process.version);
  for (const file of files) hash.update(`${relative(ROOT, file)}\0`).update(await readFile(file));
  for (const dir of packages) hash.update(`${relative(ROOT, dir)}\0`).update(await readFile(join(dir, 'package.json')));
  return hash.digest('hex').slice(0, 16);
}

async function copyInto(dir: string, file: string): Promise<void> {
  const target = join(dir, relative(ROOT, file));
  await mkdir(dirname(target), { recursive: true });
  await copyFile(file, target);
}

/** The running binary itself, also when it was started through a link. */
const realNode = (): Promise<string> => realpath(process.execPath);
const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

if (import.meta.main) {
  const dir = await buildRuntimeBundle(process.argv[2] ?? join(ROOT, '.canopy/runtime'));
  process.stdout.write(`${dir}\n`);
}
