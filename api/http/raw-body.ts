import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { RequestHandler, Response } from 'express';
import { Refusal } from '../../workflows/domain/errors.ts';
import { ValidationError } from './errors.ts';

/** The received body, exactly as sent: signatures cover these bytes, never a re-serialisation. */
export interface RawBody {
  sha256: string;
  sizeBytes: number;
  /** in memory, or in `file` when the route spools */
  bytes: Buffer | null;
  file: string | null;
}

export const rawBodyOf = (res: Response): RawBody => res.locals.rawBody as RawBody;

export interface RawBodyOptions {
  limitBytes: number;
  /** a body may take this long in all; a slow client gets 408 */
  withinMs?: number;
  /** write to a file of this folder instead of memory; removed when the response ends */
  spoolDir?: string;
}

/**
 * Reads and hashes the body of POST, PUT and PATCH; other methods pass. 413 past the limit, 408 past the time. A refused
 * body is thrown away as it comes, so that the client can read the answer; `createApp` ends those that go on.
 */
export function rawBody({ limitBytes, withinMs = 60_000, spoolDir }: RawBodyOptions): RequestHandler {
  return async (req, res, next) => {
    if (!['POST', 'PUT', 'PATCH'].includes(req.method) || res.locals.rawBody) return next();
    const chunks = req.iterator({ destroyOnReturn: false })[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    const late = deadline(withinMs);
    try {
      if (Number(req.headers['content-length'] ?? 0) > limitBytes) throw tooLarge(limitBytes);
      const read = (sink: Sink) => readAll(chunks, late.passed, limitBytes, sink);
      res.locals.rawBody = spoolDir ? await spool(read, res, spoolDir) : await buffer(read);
    } catch (err) {
      void discard(chunks);
      return next(isCutShort(err) ? new Refusal('request.invalid', 'the body was cut short', { cause: err }) : err);
    } finally {
      late.cancel();
    }
    next();
  };
}

type Sink = (chunk: Buffer) => Promise<unknown> | void;

function deadline(withinMs: number): { passed: Promise<never>; cancel: () => void } {
  let timer: NodeJS.Timeout | undefined;
  const passed = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(new Refusal('request.timeout', `body not received within ${withinMs / 1000} s`)),
      withinMs,
    );
  });
  passed.catch(() => {}); // nobody may be waiting when it passes
  return { passed, cancel: () => clearTimeout(timer) };
}

async function readAll(
  chunks: AsyncIterator<Buffer>,
  late: Promise<never>,
  limitBytes: number,
  sink: Sink,
): Promise<{ sha256: string; sizeBytes: number }> {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  for (;;) {
    const { done, value } = await Promise.race([chunks.next(), late]);
    if (done) return { sha256: hash.digest('hex'), sizeBytes };
    sizeBytes += value.length;
    if (sizeBytes > limitBytes) throw tooLarge(limitBytes);
    hash.update(value);
    await sink(value);
  }
}

async function discard(chunks: AsyncIterator<Buffer>): Promise<void> {
  try {
    while (!(await chunks.next()).done);
  } catch {
    // The client left: there is nothing more to throw away.
  }
}

const isCutShort = (err: unknown): boolean =>
  err instanceof Error && 'code' in err && (err.code === 'ECONNRESET' || err.code === 'ERR_STREAM_PREMATURE_CLOSE');

/** The body as JSON. An empty body is `{}` only where `allowEmpty`. */
export function jsonBodyOf(res: Response, { allowEmpty = false } = {}): unknown {
  const { bytes } = rawBodyOf(res);
  if (allowEmpty && bytes?.length === 0) return {};
  try {
    return JSON.parse((bytes ?? Buffer.alloc(0)).toString('utf8')) as unknown;
  } catch {
    throw new ValidationError([{ type: 'json_invalid', loc: ['body'], msg: 'body is not valid JSON' }]);
  }
}

const tooLarge = (limitBytes: number): Refusal =>
  new Refusal('request.too_large', `body is larger than ${limitBytes} bytes`);

type Read = (sink: Sink) => Promise<{ sha256: string; sizeBytes: number }>;

async function buffer(read: Read): Promise<RawBody> {
  const chunks: Buffer[] = [];
  const seen = await read((chunk) => void chunks.push(chunk));
  return { ...seen, bytes: Buffer.concat(chunks), file: null };
}

async function spool(read: Read, res: Response, dir: string): Promise<RawBody> {
  await mkdir(dir, { recursive: true });
  const file = join(dir, `${randomUUID()}.body`);
  res.once('close', () => void rm(file, { force: true }));
  const handle = await open(file, 'wx', 0o600);
  try {
    return { ...(await read((chunk) => handle.appendFile(chunk))), bytes: null, file };
  } finally {
    await handle.close();
  }
}
