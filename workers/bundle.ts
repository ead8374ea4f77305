import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { bundleWorkflowCode, type WorkflowBundlePath } from '@temporalio/worker';

const ROOT = join(import.meta.dirname, '..');

/**
 * The workflows of `entryFile` as one file, made by webpack (a second or more) only when something they are made of has
 * changed: every file under `workflows/`, the entry, and the lock file. Safe from several processes at once.
 */
export async function workflowBundle(entryFile: string, cacheDir: string): Promise<WorkflowBundlePath> {
  const codePath = join(cacheDir, `workflows-${await hashOfSources(entryFile)}.js`);
  if (await exists(codePath)) return { codePath };
  const code = await bundle(entryFile);
  await mkdir(cacheDir, { recursive: true });
  const draft = `${codePath}.${process.pid}`;
  await writeFile(draft, code);
  await rename(draft, codePath);
  return { codePath };
}

async function hashOfSources(entryFile: string): Promise<string> {
  const found = await readdir(join(ROOT, 'workflows'), { recursive: true, withFileTypes: true });
  const sources = found
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.name.endsWith('.test.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
  const hash = createHash('sha256').update(relative(ROOT, entryFile));
  for (const file of [...sources.sort(), entryFile, join(ROOT, 'package-lock.json')]) {
    hash.update(`\0${relative(ROOT, file)}\0`).update(await readFile(file));
  }
  return hash.digest('hex').slice(0, 24);
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

const ignore = (): void => {};

/** webpack tells every module it meets; only what it says when it fails is worth reading. */
async function bundle(entryFile: string): Promise<string> {
  const complaints: string[] = [];
  const error = (message: string): void => void complaints.push(message);
  const logger = { log: ignore, trace: ignore, debug: ignore, info: ignore, warn: ignore, error };
  try {
    return (await bundleWorkflowCode({ workflowsPath: entryFile, logger })).code;
  } catch (err) {
    throw new Error(`workflows of ${relative(ROOT, entryFile)} do not bundle: ${complaints.join('\n')}`, {
      cause: err,
    });
  }
}
