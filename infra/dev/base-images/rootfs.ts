import { execFile } from 'node:child_process';
import { chmod, copyFile, cp, lstat, mkdir, readlink, realpath, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const TOP_LINKS = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'];

/** A minimal glibc file system out of programs of this machine: each with the libraries `ldd` names, at its own path. */
export class Rootfs {
  readonly dir: string;
  readonly #copied = new Set<string>();
  constructor(dir: string) {
    this.dir = dir;
  }

  /** Directories and the files every program expects. */
  async prepare(): Promise<void> {
    for (const name of [
      'usr/bin',
      'usr/sbin',
      'usr/lib',
      'usr/lib64',
      'usr/local/bin',
      'etc',
      'proc',
      'sys',
      'dev',
      'root',
      'app',
      'cache',
      'tmp',
      'var/tmp',
    ]) {
      await mkdir(join(this.dir, name), { recursive: true });
    }
    for (const name of ['tmp', 'var/tmp', 'cache']) await chmod(join(this.dir, name), 0o1777);
    for (const name of TOP_LINKS) {
      const target = await readlink(`/${name}`).catch(() => null);
      if (target && !(await exists(join(this.dir, name))))
        await symlink(target.replace(/^\//, ''), join(this.dir, name));
    }
    await writeFile(join(this.dir, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nchutes:x:1000:1000::/tmp:/bin/sh\n');
    await writeFile(join(this.dir, 'etc/group'), 'root:x:0:\nchutes:x:1000:\n');
    await writeFile(join(this.dir, 'etc/nsswitch.conf'), 'passwd: files\ngroup: files\nhosts: files dns\n');
  }

  /** A program or library with what it links to. */
  async addBinary(path: string): Promise<void> {
    await this.addFile(path);
    const { stdout } = await run('ldd', [path]).catch(() => ({ stdout: '' })); // static, or a script
    for (const library of stdout.matchAll(/(?:=>\s*)?(\/\S+)\s+\(0x/g)) if (library[1]) await this.addFile(library[1]);
  }

  /** Follows links of the machine: the file itself stands at the given path. */
  async addFile(path: string): Promise<void> {
    if (this.#copied.has(path)) return;
    this.#copied.add(path);
    const target = join(this.dir, path);
    await mkdir(dirname(target), { recursive: true });
    await copyFile(await realpath(path), target);
    await chmod(target, (await stat(path)).mode & 0o777);
  }

  /** A folder; `skip` is asked with each entry's name. */
  async addFolder(path: string, skip: (name: string) => boolean): Promise<void> {
    await mkdir(dirname(join(this.dir, path)), { recursive: true });
    await cp(path, join(this.dir, path), {
      recursive: true,
      dereference: true,
      filter: (source) => !skip(basename(source)),
    });
  }

  async link(path: string, target: string): Promise<void> {
    if (!(await exists(join(this.dir, path)))) await symlink(target, join(this.dir, path));
  }
}

const exists = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => true,
    () => false,
  );
