import {
  closeSync,
  fdatasync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
  writeFileSync,
} from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import type { Logger } from '../../clients/log.ts';
import type { InvocationRecord } from '../../../workflows/domain/metering/record.ts';

const sync = promisify(fdatasync);
const SEGMENT = /^\d{20}\.spool$/;
const LOCK = 'lock';

/**
 * Usage records on local disk until Postgres has them: one line a record, `crc32(8 hex) SP json LF`, in numbered segment
 * files. `append` returns when the kernel has the bytes, so the death of the process loses nothing; the disk has them
 * at the next `fsyncEveryMs`. A line torn by a power cut fails its checksum and is skipped, the lines around it are not.
 *
 * One process owns a folder: a second one would delete segments still being written.
 */
export class Spool {
  readonly #dir: string;
  readonly #log: Logger;
  readonly #timer: NodeJS.Timeout;
  #open: { file: string; fd: number } | null = null;
  #nextNumber: number;
  #isDirty = false;
  #syncs: Promise<void> = Promise.resolve();
  /** bytes the disk refused; written again at the next tick, so that a full disk loses nothing while we live */
  #refused: Buffer[] = [];

  constructor({ dir, log, fsyncEveryMs = 50 }: { dir: string; log: Logger; fsyncEveryMs?: number }) {
    this.#dir = dir;
    this.#log = log;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    takeLock(dir);
    this.#nextNumber = Math.max(0, ...this.#segments().map((name) => Number(name.slice(0, 20)))) + 1;
    this.#timer = setInterval(() => this.#sync(), fsyncEveryMs);
    this.#timer.unref();
  }

  append(record: InvocationRecord): void {
    const json = JSON.stringify(record);
    this.#write(Buffer.from(`${crc32(json).toString(16).padStart(8, '0')} ${json}\n`));
  }

  /** False while the disk refuses writes. */
  get isHealthy(): boolean {
    return this.#refused.length === 0;
  }

  /** Closes the segment being written and names all closed ones, oldest first; a new one begins with the next record. */
  seal(): string[] {
    if (this.#open) {
      const { fd } = this.#open;
      const isDirty = this.#isDirty;
      this.#afterSyncs(async () => {
        if (isDirty) await sync(fd);
        closeSync(fd);
      });
    }
    this.#open = null;
    this.#isDirty = false;
    return this.#segments().map((name) => join(this.#dir, name));
  }

  async remove(file: string): Promise<void> {
    await rm(file, { force: true });
  }

  /** Keeps records Postgres refuses for what they are, for a person to look at; never read again. */
  setAside(records: readonly InvocationRecord[]): void {
    writeFileSync(
      join(this.#dir, `${Date.now()}.rejected`),
      records.map((record) => `${JSON.stringify(record)}\n`).join(''),
      { flag: 'a', mode: 0o600 },
    );
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    if (this.#refused.length > 0) this.#retryRefused();
    this.seal();
    await this.#syncs;
    rmSync(join(this.#dir, LOCK), { force: true });
  }

  #segments(): string[] {
    return readdirSync(this.#dir)
      .filter((name) => SEGMENT.test(name))
      .sort();
  }

  #write(bytes: Buffer): void {
    if (this.#refused.length > 0) return void this.#refused.push(bytes);
    try {
      this.#open ??= this.#openSegment();
      for (let at = 0; at < bytes.length;) at += writeSync(this.#open.fd, bytes, at);
      this.#isDirty = true;
    } catch (err) {
      this.#log.error({ event: 'spool.write_failed', err }, 'spool.write_failed');
      // What was written of the line is torn: the next line must begin on its own.
      this.#refused.push(Buffer.concat([Buffer.from('\n'), bytes]));
    }
  }

  #openSegment(): { file: string; fd: number } {
    const file = join(this.#dir, `${String(this.#nextNumber++).padStart(20, '0')}.spool`);
    return { file, fd: openSync(file, 'a', 0o600) };
  }

  #retryRefused(): void {
    const refused = this.#refused;
    this.#refused = [];
    for (const bytes of refused) this.#write(bytes);
  }

  #sync(): void {
    if (this.#refused.length > 0) this.#retryRefused();
    if (!this.#isDirty || !this.#open) return;
    this.#isDirty = false;
    const { fd } = this.#open;
    this.#afterSyncs(() => sync(fd));
  }

  /** One at a time and in order, so that a file is never closed under a sync of its own. */
  #afterSyncs(work: () => Promise<void>): void {
    this.#syncs = this.#syncs
      .then(work)
      .catch((err: unknown) => this.#log.error({ event: 'spool.sync_failed', err }, 'spool.sync_failed'));
  }
}

/** The records of one segment; lines that fail their checksum are counted, not returned. */
export async function readSegment(file: string): Promise<{ records: InvocationRecord[]; torn: number }> {
  const records: InvocationRecord[] = [];
  let torn = 0;
  for (const line of (await readFile(file, 'utf8')).split('\n')) {
    if (line === '') continue;
    const json = line.slice(9);
    if (line[8] === ' ' && crc32(json).toString(16).padStart(8, '0') === line.slice(0, 8))
      records.push(JSON.parse(json) as InvocationRecord);
    else torn += 1;
  }
  return { records, torn };
}

/** A lock of a dead process, or of an earlier life of this process id (containers), is taken over. */
function takeLock(dir: string): void {
  const file = join(dir, LOCK);
  for (let attempt = 0; ; attempt++) {
    try {
      return writeFileSync(file, String(process.pid), { flag: 'wx' });
    } catch (err) {
      const owner = ownerOf(file);
      if (attempt > 0 || (owner !== process.pid && isAlive(owner))) {
        throw new Error(`spool folder ${dir} belongs to process ${owner}: give every gateway a folder of its own`, {
          cause: err,
        });
      }
      rmSync(file, { force: true });
    }
  }
}

function ownerOf(file: string): number {
  try {
    return Number(readFileSync(file, 'utf8'));
  } catch {
    return 0;
  }
}

function isAlive(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (err) {
    return err instanceof Error && 'code' in err && err.code === 'EPERM';
  }
}
