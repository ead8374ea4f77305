import { copyFile, chmod, glob, lstat, mkdir, readdir, readlink, symlink } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { BuildFailure } from './build-failure.ts';

/**
 * COPY of the process form. `root` is the image's tree on disk, which steps of the build have written to: a link in it is
 * never followed, or a copy could be led out of the tree.
 */
export async function copyInto({
  contextDir,
  root,
  sources,
  destination,
  mode,
}: {
  contextDir: string;
  root: string;
  sources: readonly string[];
  destination: string;
  mode: number | null;
}): Promise<void> {
  const matched: string[] = [];
  for (const source of sources) matched.push(...(await matches(contextDir, source)));
  const intoFolder = destination.endsWith('/') || matched.length > 1 || sources.length > 1;
  for (const source of matched) {
    const from = join(contextDir, source);
    const isFolder = (await lstat(from)).isDirectory();
    const to =
      isFolder || !(intoFolder || (await isDirectory(join(root, destination))))
        ? destination
        : posix.join(destination, posix.basename(source));
    await makeFolders(root, isFolder ? to : posix.dirname(posix.resolve('/', to)));
    await copyTree(from, join(root, to), mode);
  }
}

async function matches(contextDir: string, source: string): Promise<string[]> {
  const relative = posix.normalize(posix.join('/', source)).slice(1) || '.';
  if (!/[*?[\]]/.test(relative)) {
    if (!(await lstat(join(contextDir, relative)).catch(() => null)))
      throw new BuildFailure(`${source} is not in the build context`);
    return [relative];
  }
  const found: string[] = [];
  for await (const match of glob(relative, { cwd: contextDir })) found.push(match);
  if (found.length === 0) throw new BuildFailure(`nothing in the build context matches ${source}`);
  return found.sort();
}

const isDirectory = async (path: string): Promise<boolean> =>
  (await lstat(path).catch(() => null))?.isDirectory() ?? false;

/** Creates the folders of an absolute image path one by one. */
export async function makeFolders(root: string, path: string): Promise<void> {
  let at = root;
  for (const part of posix.resolve('/', path).split('/').filter(Boolean)) {
    at = join(at, part);
    const there = await lstat(at).catch(() => null);
    if (!there) await mkdir(at);
    else if (!there.isDirectory()) throw new BuildFailure(`${path} leads through ${part}, which is not a folder`);
  }
}

async function copyTree(from: string, to: string, mode: number | null): Promise<void> {
  const source = await lstat(from);
  const there = await lstat(to).catch(() => null);
  if (source.isDirectory()) {
    if (!there) await mkdir(to);
    else if (!there.isDirectory()) throw new BuildFailure(`cannot copy a folder over ${posix.basename(to)}`);
    for (const name of await readdir(from)) await copyTree(join(from, name), join(to, name), mode);
    return;
  }
  if (there && !there.isFile()) throw new BuildFailure(`cannot copy a file over ${posix.basename(to)}`);
  if (source.isSymbolicLink()) {
    if (there) throw new BuildFailure(`cannot copy a link over ${posix.basename(to)}`);
    return symlink(await readlink(from), to);
  }
  await copyFile(from, to);
  if (mode !== null) await chmod(to, mode);
}
