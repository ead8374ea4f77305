import { readdir, readFile } from 'node:fs/promises';

/** Pids of the `graval` processes that this process started and that still run; waits until there are at least `atLeast`. */
export async function runningProvers(atLeast = 0): Promise<number[]> {
  for (const deadline = Date.now() + 10_000; ;) {
    const pids = (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name));
    const found = (await Promise.all(pids.map(async (pid) => ((await isOurs(pid)) ? [Number(pid)] : [])))).flat();
    if (found.length >= atLeast) return found;
    if (Date.now() > deadline) throw new Error(`${found.length} provers run, not ${atLeast}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function isOurs(pid: string): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return stat.includes('(graval)') && state !== 'Z' && Number(parent) === process.pid;
}
