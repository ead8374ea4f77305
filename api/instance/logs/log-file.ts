import { closeSync, fstatSync, openSync, readSync, renameSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export const LOG_NAME = '_chute.log';
const ROTATE_AT_BYTES = 200 * 1024 * 1024;
const OLD_FILES = 4;
const LONGEST_LINE = 16_384;
const TAIL_BLOCK = 64 * 1024;

export type LogEvent = { kind: 'line'; line: string } | { kind: 'rotated' };
export interface LogEntry {
  name: string;
  size: number;
  modified: string;
  path: string;
}

/**
 * What the chute prints, one file of ≤ 200 MB and four older ones (spec/sdk-and-runtime.md §3.13). Lines read
 * `timestamp pid program: text`. Writes are synchronous: the last words of a dying child are the ones that matter.
 */
export class LogFile {
  readonly #dir: string;
  readonly #rotateAtBytes: number;
  readonly #readers = new Set<(event: LogEvent) => void>();
  #file: number;
  #size: number;

  constructor({ dir, rotateAtBytes = ROTATE_AT_BYTES }: { dir: string; rotateAtBytes?: number }) {
    this.#dir = dir;
    this.#rotateAtBytes = rotateAtBytes;
    this.#file = openSync(this.#pathOf('current'), 'a');
    this.#size = fstatSync(this.#file).size;
  }

  append(pid: number, program: string, text: string): void {
    const line = `${new Date().toISOString()} ${pid} ${program}: ${text.slice(0, LONGEST_LINE)}`;
    const bytes = Buffer.from(`${line}\n`);
    if (this.#size > 0 && this.#size + bytes.length > this.#rotateAtBytes) this.#rotate();
    try {
      writeSync(this.#file, bytes);
      this.#size += bytes.length;
    } catch (err) {
      // A full disk must not take the chute down: the line still goes to whoever is listening.
      if ((err as NodeJS.ErrnoException).code !== 'ENOSPC') throw err;
    }
    for (const reader of this.#readers) reader({ kind: 'line', line });
  }

  /** Returns the function that ends the subscription. */
  subscribe(reader: (event: LogEvent) => void): () => void {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  }

  list(): LogEntry[] {
    return ['current', ...Array.from({ length: OLD_FILES }, (_, index) => String(index + 1))].flatMap((name) => {
      const stat = statSync(this.#pathOf(name), { throwIfNoEntry: false });
      // The path is the reference's, wherever the file really is: probers look for it (spec/sdk-and-runtime.md §3.13).
      const path = `/tmp/${LOG_NAME}${name === 'current' ? '' : `.${name}`}`;
      return stat ? [{ name, size: stat.size, modified: stat.mtime.toISOString(), path }] : [];
    });
  }

  /** The last `count` lines, oldest first; null when there is no such file. */
  tail(name: string, count: number): string[] | null {
    let file: number;
    try {
      file = openSync(this.#pathOf(name), 'r');
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw err;
    }
    try {
      return lastLines(file, count);
    } finally {
      closeSync(file);
    }
  }

  close(): void {
    this.#readers.clear();
    closeSync(this.#file);
  }

  #rotate(): void {
    closeSync(this.#file);
    for (let index = OLD_FILES - 1; index >= 0; index--) {
      const from = this.#pathOf(index === 0 ? 'current' : String(index));
      if (statSync(from, { throwIfNoEntry: false })) renameSync(from, this.#pathOf(String(index + 1)));
    }
    this.#file = openSync(this.#pathOf('current'), 'a');
    this.#size = 0;
    for (const reader of this.#readers) reader({ kind: 'rotated' });
  }
  #pathOf(name: string): string {
    return join(this.#dir, name === 'current' ? LOG_NAME : `${LOG_NAME}.${name}`);
  }
}

function lastLines(file: number, count: number): string[] {
  if (count === 0) return [];
  const blocks: Buffer[] = [];
  let newlines = 0;
  for (let end = fstatSync(file).size; end > 0 && newlines <= count;) {
    const start = Math.max(0, end - TAIL_BLOCK);
    const block = Buffer.alloc(end - start);
    readSync(file, block, 0, block.length, start);
    newlines += block.reduce((sum, byte) => sum + (byte === 10 ? 1 : 0), 0);
    blocks.unshift(block);
    end = start;
  }
  return Buffer.concat(blocks).toString('utf8').split('\n').slice(0, -1).slice(-count);
}
