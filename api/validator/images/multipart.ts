import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Readable } from 'node:stream';
import busboy from 'busboy';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { ValidationError } from '../../http/errors.ts';

export interface FormFile {
  path: string;
  sizeBytes: number;
  sha256: string;
}
export interface Form {
  fields: Record<string, string>;
  files: Record<string, FormFile>;
  remove: () => Promise<void>;
}

export interface FormOptions {
  contentType: string | undefined;
  /** the whole body, as spooled */
  bodyFile: string;
  dir: string;
  /** fields to keep, with their limit in bytes; others are skipped whatever their size */
  fields: Readonly<Record<string, number>>;
  /** file parts to keep */
  files: readonly string[];
}

const malformed = (why: string): Refusal =>
  new Refusal('request.invalid', `body is not a usable multipart form: ${why}`);

/** Takes a spooled multipart body apart, file parts into files of `dir`. Throws 400 or 422, leaving nothing in `dir`. */
export async function parseForm({
  contentType,
  bodyFile,
  dir,
  fields: wanted,
  files: wantedFiles,
}: FormOptions): Promise<Form> {
  if (!/^multipart\/form-data\b/i.test(contentType ?? '')) throw malformed('content type must be multipart/form-data');
  await mkdir(dir, { recursive: true });
  const form: Form = {
    fields: {},
    files: {},
    remove: async () => {
      for (const { path } of Object.values(form.files)) await rm(path, { force: true });
    },
  };
  const largest = Math.max(...Object.values(wanted));
  let parser;
  try {
    parser = busboy({
      headers: { 'content-type': contentType },
      limits: { fields: 64, files: 8, parts: 72, fieldSize: largest + 1, fieldNameSize: 100 },
    });
  } catch (err) {
    throw malformed(err instanceof Error ? err.message : String(err));
  }
  const problems: Error[] = [];
  const writing: Promise<void>[] = [];
  parser.on('field', (name, value, { nameTruncated }) => {
    const limit = Object.hasOwn(wanted, name) && !nameTruncated ? wanted[name] : undefined;
    if (limit === undefined) return;
    if (Object.hasOwn(form.fields, name)) problems.push(malformed(`${name} is there twice`));
    if (Buffer.byteLength(value) > limit)
      problems.push(
        new ValidationError([{ type: 'too_big', loc: ['body', name], msg: `must have at most ${limit} bytes` }]),
      );
    form.fields[name] = value;
  });
  parser.on('file', (name, stream) => {
    if (!wantedFiles.includes(name)) return void stream.resume();
    if (form.files[name]) {
      problems.push(malformed(`${name} is there twice`));
      return void stream.resume();
    }
    const file: FormFile = { path: join(dir, `${randomUUID()}.part`), sizeBytes: 0, sha256: '' };
    form.files[name] = file;
    writing.push(
      writePart(stream, file).catch(
        (err: unknown) => void problems.push(malformed(err instanceof Error ? err.message : String(err))),
      ),
    );
  });
  for (const limit of ['partsLimit', 'filesLimit', 'fieldsLimit'] as const)
    parser.on(limit, () => void problems.push(malformed('too many parts')));
  try {
    await pipeline(createReadStream(bodyFile), parser).catch(
      (err: unknown) => void problems.push(malformed(err instanceof Error ? err.message : String(err))),
    );
    await Promise.all(writing);
    if (problems[0]) throw problems[0];
    const missing = wantedFiles.filter((name) => !form.files[name]);
    if (missing.length > 0)
      throw new ValidationError(
        missing.map((name) => ({ type: 'missing', loc: ['body', name], msg: 'Field required' })),
      );
    return form;
  } catch (err) {
    await form.remove();
    throw err;
  }
}

async function writePart(stream: Readable, file: FormFile): Promise<void> {
  const hash = createHash('sha256');
  await pipeline(
    stream,
    async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        file.sizeBytes += chunk.length;
        yield chunk;
      }
    },
    createWriteStream(file.path, { mode: 0o600 }),
  );
  file.sha256 = hash.digest('hex');
}
