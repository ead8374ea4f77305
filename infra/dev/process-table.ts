import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writePrivate } from './network-state.ts';

/** A process we started, told apart from a later one with the same pid by when the kernel started it. */
interface ProcessRecord { name: string; pid: number; startTicks: string }

/** Start time of a process in clock ticks since boot; null when it is gone (or the system has no /proc). */
async function startTicksOf(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
}

/** The processes of one data directory, on disk, so that a start after a crash ends what the crashed one left. */
export class ProcessTable {
  readonly #file: string;
  #records: ProcessRecord[] = [];
  #written: Promise<void> = Promise.resolve();
  constructor(dir: string) {
    this.#file = join(dir, 'processes.json');
  }

  async add(name: string, pid: number): Promise<void> {
    this.#records.push({ name, pid, startTicks: (await startTicksOf(pid)) ?? '' });
    // One writer at a time: programs are started side by side.
    this.#written = this.#written.then(() => writePrivate(this.#file, JSON.stringify(this.#records)));
    await this.#written;
  }

  async clear(): Promise<void> {
    this.#records = [];
    await rm(this.#file, { force: true });
  }

  /** Ends what an earlier start left running, with its whole process group; returns the names. */
  async endLeftovers(): Promise<string[]> {
    const records = await readFile(this.#file, 'utf8').then((text) => JSON.parse(text) as ProcessRecord[], () => []);
    const ended: string[] = [];
    for (const { name, pid, startTicks } of records) {
      if (startTicks === '' || (await startTicksOf(pid)) !== startTicks) continue;
      ended.push(name);
      signalGroup(pid, 'SIGTERM');
    }
    const deadline = Date.now() + 10_000;
    for (const { pid, startTicks } of records) {
      while (startTicks !== '' && (await startTicksOf(pid)) === startTicks) {
        if (Date.now() > deadline) signalGroup(pid, 'SIGKILL');
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    await this.clear();
    return ended;
  }
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // gone meanwhile
  }
}
