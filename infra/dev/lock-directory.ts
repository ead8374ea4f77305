import { existsSync } from 'node:fs';
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** One network per data directory; a lock of a dead process is taken over. */
export async function lockDirectory(dir: string): Promise<() => Promise<void>> {
  const file = join(dir, 'lock');
  for (;;) {
    try {
      const handle = await open(file, 'wx', 0o600);
      await handle.writeFile(String(process.pid));
      await handle.close();
      return () => rm(file, { force: true });
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== 'EEXIST') throw err;
    }
    const pid = Number(await readFile(file, 'utf8').catch(() => ''));
    const alive = pid > 0 && (existsSync('/proc/self') ? existsSync(`/proc/${pid}`) : isAlive(pid));
    if (alive && pid !== process.pid)
      throw new Error(`A network already runs on ${dir} (pid ${pid}). Stop it, or use --data-dir for another.`);
    await rm(file, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
