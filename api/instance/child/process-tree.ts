import { readdir, readFile } from 'node:fs/promises';

/** All descendants of a process, from /proc; empty where there is none. A chute may have started processes of its own. */
export async function descendantsOf(pid: number): Promise<number[]> {
  const names = await readdir('/proc').catch(() => []);
  const parents = await Promise.all(
    names.filter((name) => /^[0-9]+$/.test(name)).map(async (name) => [Number(name), await parentOf(name)] as const),
  );
  const found: number[] = [];
  for (let layer = [pid]; layer.length > 0; found.push(...layer)) {
    const above = new Set(layer);
    layer = parents.flatMap(([child, parent]) => (above.has(parent) ? [child] : []));
  }
  return found;
}

/** The fourth field of `stat`, counted from the closing bracket: a program's name may hold spaces and brackets. */
async function parentOf(pid: string): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? -1);
}
