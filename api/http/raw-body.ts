import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Request, RequestHandler, Response } from 'express';
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

/** Reads and hashes the body of POST, PUT and PATCH; other methods pass. 413 past the limit, 408 past the time. */
export function rawBody({ limitBytes, withinMs = 60_000, spoolDir }: RawBodyOptions): RequestHandler {
  return async (req, res, next) => {
    if (!['POST', 'PUT', 'PATCH'].includes(req.method) || res.locals.rawBody) return next();
    const late = setTimeout(
      () => req.destroy(new Refusal('request.timeout', `body not received within ${withinMs / 1000} s`)),
      withinMs,
    );
    try {
      if (Number(req.headers['content-length'] ?? 0) > limitBytes) throw tooLarge(limitBytes);
      res.locals.rawBody = spoolDir ? await spool(req, res, spoolDir, limitBytes) : await buffer(req, limitBytes);
      next();
    } catch (err) {
      // What is left of the body is not read: the connection cannot be used again.
      res.setHeader('connection', 'close');
      next(err);
    } finally {
      clearTimeout(late);
    }
  };
}

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

async function buffer(req: Request, limitBytes: number): Promise<RawBody> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of req) {
    sizeBytes += (chunk as Buffer).length;
    if (sizeBytes > limitBytes) throw tooLarge(limitBytes);
    chunks.push(chunk as Buffer);
  }
  const bytes = Buffer.concat(chunks);
  return { sha256: createHash('sha256').update(bytes).digest('hex'), sizeBytes, bytes, file: null };
}

async function spool(req: Request, res: Response, dir: string, limitBytes: number): Promise<RawBody> {
  await mkdir(dir, { recursive: true });
  const file = join(dir, `${randomUUID()}.body`);
  res.once('close', () => void rm(file, { force: true }));
  const hash = createHash('sha256');
  let sizeBytes = 0;
  await pipeline(
    req,
    async function* (source: AsyncIterable<Buffer>) {
      for await (const chunk of source) {
        sizeBytes += chunk.length;
        if (sizeBytes > limitBytes) throw tooLarge(limitBytes);
        hash.update(chunk);
        yield chunk;
      }
    },
    createWriteStream(file, { mode: 0o600 }),
  );
  return { sha256: hash.digest('hex'), sizeBytes, bytes: null, file };
}
