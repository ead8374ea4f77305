import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { identityOf, isAlive, signalGroup, type ProcessIdentity } from '../../activities/clients/processes.ts';
import { writePrivate } from './network-state.ts';

interface ProcessRecord extends ProcessIdentity {
  name: string;
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
    const identity = await identityOf(pid);
    if (identity) this.#records.push({ name, ...identity });
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
    const records = await readFile(this.#file, 'utf8').then(
      (text) => JSON.parse(text) as ProcessRecord[],
      () => [],
    );
    const ended: ProcessRecord[] = [];
    for (const record of records) {
      if (!(await isAlive(record))) continue;
      ended.push(record);
      signalGroup(record.pid, 'SIGTERM');
    }
    const deadline = Date.now() + 10_000;
    for (const record of ended) {
      for (let alive = true; alive; alive = await isAlive(record)) {
        if (Date.now() > deadline) signalGroup(record.pid, 'SIGKILL');
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    await this.clear();
    return ended.map(({ name }) => name);
  }
}
