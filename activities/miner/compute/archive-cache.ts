import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { access, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Readable } from 'node:stream';
import { extract } from 'tar';

export interface ArchiveSource {
  imageId: string;
  sha256: string;
  sizeBytes: number;
}

/** Image archives on this host by content. A file under its own hash is whole and is what was asked for. */
export class ArchiveCache {
  readonly #dir: string;
  readonly #download: (imageId: string, signal?: AbortSignal) => Promise<Readable>;
  constructor({
    dir,
    download,
  }: {
    dir: string;
    download: (imageId: string, signal?: AbortSignal) => Promise<Readable>;
  }) {
    this.#dir = dir;
    this.#download = download;
  }

  /** Path of the archive, fetched if need be; throws when the bytes are not the ones the artifact names. */
  async fetch({ imageId, sha256, sizeBytes }: ArchiveSource, signal?: AbortSignal): Promise<string> {
    if (!/^[0-9a-f]{64}$/.test(sha256)) throw new Error('archive digest is not a SHA-256');
    const file = join(this.#dir, sha256);
    if (await exists(file)) return file;
    await mkdir(this.#dir, { recursive: true });
    const partial = `${file}.${randomUUID()}.partial`;
    const hash = createHash('sha256');
    let received = 0;
    try {
      await pipeline(
        await this.#download(imageId, signal),
        async function* (source: AsyncIterable<Buffer>) {
          for await (const chunk of source) {
            received += chunk.length;
            if (received > sizeBytes)
              throw new Error(`archive of image ${imageId} is larger than the ${sizeBytes} bytes announced`);
            hash.update(chunk);
            yield chunk;
          }
        },
        createWriteStream(partial, { mode: 0o600 }),
        ...(signal ? [{ signal }] : []),
      );
      const actual = hash.digest('hex');
      if (actual !== sha256) throw new Error(`archive of image ${imageId} has sha256 ${actual}, announced ${sha256}`);
      await rename(partial, file);
      return file;
    } finally {
      await rm(partial, { force: true });
    }
  }
}

/** Unpacks into a new folder `dir`; what would leave it (absolute paths, `..`, links outwards, devices) is an error. */
export async function unpack(archive: string, dir: string): Promise<void> {
  const partial = `${dir}.${randomUUID()}.partial`;
  await mkdir(partial, { recursive: true });
  try {
    await pipeline(
      createReadStream(archive),
      extract({ cwd: partial, strict: true, preservePaths: false, noMtime: true, preserveOwner: false }),
    );
    await rm(dir, { recursive: true, force: true });
    await rename(partial, dir);
  } finally {
    await rm(partial, { recursive: true, force: true });
  }
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
