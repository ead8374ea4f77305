import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Bytes on disk below the folders (allocated blocks, one file system). Files that vanish meanwhile are not counted. */
export async function diskUsage(dirs: readonly string[]): Promise<number> {
  if (dirs.length === 0) return 0;
  // du answers non-zero when something vanished under it; its numbers stand all the same.
  const { stdout } = await run('du', ['-skxc', ...dirs], {
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C' },
    maxBuffer: 1024 ** 2,
  }).catch((err: unknown) => {
    if (
      typeof err === 'object' &&
      err !== null &&
      'stdout' in err &&
      typeof err.stdout === 'string' &&
      err.stdout !== ''
    )
      return { stdout: err.stdout };
    throw err;
  });
  const total = /^(\d+)\s+total$/m.exec(stdout);
  return Number(total?.[1] ?? 0) * 1024;
}

/** Calls `onExceeded` once when the folders grow by more than `maxBytes`; looks again after five times what a look takes. */
export function watchDisk({
  dirs,
  maxBytes,
  onExceeded,
}: {
  dirs: readonly string[];
  maxBytes: number;
  onExceeded: () => void;
}): { stop: () => void } {
  let stopped = false;
  let timer: NodeJS.Timeout | null = null;
  let before: number | null = null;
  const look = async (): Promise<void> => {
    const from = performance.now();
    const bytes = await diskUsage(dirs).catch(() => null);
    if (stopped) return;
    if (bytes !== null) {
      before ??= bytes;
      if (bytes - before > maxBytes) return onExceeded();
    }
    timer = setTimeout(() => void look(), Math.max(500, (performance.now() - from) * 5));
  };
  void look();
  return {
    stop: () => {
      stopped = true;
      if (timer) clearTimeout(timer);
    },
  };
}
