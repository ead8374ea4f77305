import { createWriteStream } from 'node:fs';
import { chmod, mkdir, symlink } from 'node:fs/promises';
import { dirname, join, posix } from 'node:path';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import yauzl, { type Entry, type ZipFile } from 'yauzl';
import { BuildFailure } from './build-failure.ts';
import { errorCode, isSystemError } from './error-code.ts';

export interface ContextLimits {
  maxEntries: number;
  maxBytes: number;
}

export const MAX_CONTEXT_ENTRIES = 100_000;
const SYMLINK = 0o120000;
const DIRECTORY = 0o040000;
const REGULAR = 0o100000;
const TYPE_MASK = 0o170000;
/** A link's text longer than this is no path. */
const MAX_LINK_BYTES = 4096;

/**
 * Checks a build context without writing anything: no name or link may lead out of it, and what the archive says of its
 * sizes must be within the limits (yauzl stops a member that turns out larger than it said).
 */
export async function inspectContext(zipPath: string, limits: ContextLimits): Promise<void> {
  await eachEntry(zipPath, limits, async () => {});
}

/** Unpacks into an existing empty folder. Links are made last, so nothing is ever written through one. */
export async function extractContext(
  zipPath: string,
  dir: string,
  limits: ContextLimits,
): Promise<{ entries: number; bytes: number }> {
  const links: { path: string; target: string }[] = [];
  let entries = 0;
  let bytes = 0;
  await eachEntry(zipPath, limits, async (zip, entry, mode) => {
    entries++;
    bytes += entry.uncompressedSize;
    const path = join(dir, entry.fileName);
    if (entry.fileName.endsWith('/')) return void (await mkdir(path, { recursive: true }));
    await mkdir(dirname(path), { recursive: true });
    if ((mode & TYPE_MASK) === SYMLINK) return void links.push({ path, target: await readLink(zip, entry) });
    await pipeline(await zip.openReadStreamPromise(entry), createWriteStream(path, { flags: 'wx', mode: 0o644 }));
    if (mode & 0o111) await chmod(path, 0o755);
  });
  for (const { path, target } of links) {
    await symlink(target, path).catch((err: unknown) => {
      throw translate(err);
    });
  }
  return { entries, bytes };
}

type Visit = (zip: ZipFile, entry: Entry, mode: number) => Promise<void>;

async function eachEntry(zipPath: string, limits: ContextLimits, visit: Visit): Promise<void> {
  const zip = await open(zipPath);
  try {
    if (zip.entryCount > limits.maxEntries)
      throw new BuildFailure(`build context has ${zip.entryCount} entries, more than ${limits.maxEntries}`);
    let bytes = 0;
    const seen = new Set<string>();
    for await (const entry of zip.eachEntry()) {
      bytes += entry.uncompressedSize;
      if (bytes > limits.maxBytes)
        throw new BuildFailure(`build context unpacks to more than ${limits.maxBytes} bytes`);
      const mode = await checkEntry(zip, entry);
      const name = entry.fileName.replace(/\/$/, '');
      if (seen.has(name) && !entry.fileName.endsWith('/')) throw unusable(`names ${entry.fileName} twice`);
      seen.add(name);
      await visit(zip, entry, mode);
    }
  } catch (err) {
    if (err instanceof BuildFailure) throw err;
    if (isSystemError(err)) throw translate(err);
    throw unusable(messageOf(err));
  } finally {
    zip.close();
  }
}

/** The Unix mode, once the entry is known to stay inside. */
async function checkEntry(zip: ZipFile, entry: Entry): Promise<number> {
  const { fileName } = entry;
  // yauzl refuses absolute names, backslashes and `..` itself; said again because the folder's safety depends on it.
  const parts = fileName.replace(/\/$/, '').split('/');
  if (
    fileName.startsWith('/') ||
    fileName.includes('\0') ||
    parts.some((part) => part === '..' || part === '.' || part === '')
  ) {
    throw unusable(`holds the unsafe name ${JSON.stringify(fileName)}`);
  }
  if (entry.isEncrypted()) throw unusable(`holds the encrypted file ${fileName}`);
  const madeByUnix = entry.versionMadeBy >>> 8 === 3;
  const mode = madeByUnix ? entry.externalFileAttributes >>> 16 : 0;
  const type = mode & TYPE_MASK;
  if (type === SYMLINK) {
    if (entry.uncompressedSize > MAX_LINK_BYTES) throw unusable(`holds a link that is no path: ${fileName}`);
    const target = await readLink(zip, entry);
    const resolved = posix.normalize(posix.join(posix.dirname(fileName), target));
    // `..` after a name may follow another link out (`here -> .`, then `here/../x`), whatever the text resolves to.
    const steps = target.split('/');
    const climbsLate =
      steps.lastIndexOf('..') > steps.findIndex((step) => step !== '..') && steps.some((step) => step !== '..');
    if (
      target === '' ||
      target.includes('\0') ||
      posix.isAbsolute(target) ||
      climbsLate ||
      resolved === '..' ||
      resolved.startsWith('../')
    ) {
      throw unusable(`holds a link that leaves it: ${fileName} -> ${target}`);
    }
  } else if (type !== 0 && type !== DIRECTORY && type !== REGULAR)
    throw unusable(`holds ${fileName}, neither file, folder nor link`);
  return mode;
}

const messageOf = (err: unknown): string => String(err).replace(/^\w*Error: /, '');
const unusable = (what: string): BuildFailure => new BuildFailure(`build context is not usable: ${what}`);

/** A name that is both file and folder is the archive's fault; a full disk is ours. */
function translate(err: unknown): unknown {
  const code = errorCode(err) ?? '';
  return ['EEXIST', 'ENOTDIR', 'EISDIR', 'ENAMETOOLONG', 'ELOOP'].includes(code)
    ? unusable(`its names contradict each other (${code})`)
    : err;
}

const readLink = async (zip: ZipFile, entry: Entry): Promise<string> => text(await zip.openReadStreamPromise(entry));

async function open(path: string): Promise<ZipFile> {
  try {
    return await yauzl.openPromise(path, { autoClose: false, strictFileNames: true });
  } catch (err) {
    if (isSystemError(err)) throw err;
    throw unusable(messageOf(err));
  }
}
