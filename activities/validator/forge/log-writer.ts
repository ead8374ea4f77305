import { firstSeqOf, type BuildLogLine } from '../../../workflows/domain/images/build-log.ts';

export interface BuildLogSink {
  append: (imageId: string, lines: readonly BuildLogLine[]) => Promise<void>;
}

const FLUSH_MS = 200;
/** What a log may hold: a build that prints for hours must not fill the database. */
export const LOG_LIMITS = { lineChars: 8_192, linesPerSecond: 2_000, totalChars: 16 * 1024 ** 2 } as const;

/** Takes a build's output line by line and stores it in batches; `close` returns when every line is stored. */
export class BuildLogWriter {
  readonly #sink: BuildLogSink;
  readonly #imageId: string;
  readonly #startedAt = performance.now();
  #seq: number;
  #pending: BuildLogLine[] = [];
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<void> = Promise.resolve();
  #failure: unknown = null;
  #chars = 0;
  #second = 0;
  #inSecond = 0;
  #dropped = 0;

  constructor(sink: BuildLogSink, imageId: string, attempt: number) {
    this.#sink = sink;
    this.#imageId = imageId;
    this.#seq = firstSeqOf(attempt);
  }

  /** A line of what runs; cut, and dropped with a note when there is too much. NUL has no place in a text column. */
  line(logType: 'stdout' | 'stderr', text: string): void {
    const second = Math.floor(Date.now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#inSecond = 0;
      this.#noteDropped();
    }
    if (++this.#inSecond > LOG_LIMITS.linesPerSecond || this.#chars > LOG_LIMITS.totalChars) {
      this.#dropped++;
      return;
    }
    const clean = text.replaceAll('\0', '');
    this.#push(logType, clean.length > LOG_LIMITS.lineChars ? `${clean.slice(0, LOG_LIMITS.lineChars)}… (cut)` : clean);
  }

  /** A line of the forge itself, with the time since the build began. */
  note(text: string): void {
    this.#push('stdout', `[forge ${((performance.now() - this.#startedAt) / 1000).toFixed(1)}s] ${text}`);
  }

  /** Runs one stage, with a line before and one after that says how long it took. */
  async stage<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
    this.note(`${name} …`);
    const from = performance.now();
    const result = await work();
    this.note(`${name}: ${((performance.now() - from) / 1000).toFixed(2)} s`);
    return result;
  }

  /** Throws when lines could not be stored: the attempt has failed then. */
  async close(): Promise<void> {
    this.#noteDropped();
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    this.#flush();
    await this.#writing;
    if (this.#failure) throw this.#failure;
  }

  #noteDropped(): void {
    if (this.#dropped === 0) return;
    const dropped = this.#dropped;
    this.#dropped = 0;
    this.#push('stderr', `… ${dropped} lines left out`);
  }

  #push(logType: 'stdout' | 'stderr', log: string): void {
    this.#chars += log.length;
    this.#pending.push({ seq: this.#seq++, atMs: Date.now(), logType, log });
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#flush();
    }, FLUSH_MS);
  }

  #flush(): void {
    const lines = this.#pending;
    if (lines.length === 0) return;
    this.#pending = [];
    this.#writing = this.#writing
      .then(() => this.#sink.append(this.#imageId, lines))
      .catch((err: unknown) => {
        this.#failure ??= err;
      });
  }
}
