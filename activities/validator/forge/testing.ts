import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import yazl from 'yazl';
import { BlobStore } from '../../clients/s3.ts';

/** A zip of the given files; a value may carry a Unix mode (0o120777 makes a link of its text). */
export async function zipOf(
  files: Record<string, string | Buffer | { mode: number; content: string }>,
): Promise<Buffer> {
  const zip = new yazl.ZipFile();
  for (const [name, value] of Object.entries(files)) {
    if (typeof value === 'string' || Buffer.isBuffer(value))
      zip.addBuffer(Buffer.from(value), name, { mtime: new Date(0) });
    else zip.addBuffer(Buffer.from(value.content), name, { mode: value.mode, mtime: new Date(0) });
  }
  zip.end();
  return buffer(zip.outputStream);
}

/** The same zip with a name changed in place to one of equal length: what no honest archiver would write. */
export const renamed = (zip: Buffer, from: string, to: string): Buffer =>
  Buffer.from(zip.toString('latin1').replaceAll(from, to), 'latin1');

export const sha256Of = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');

/** The test run's S3. */
export const testBlobs = (): BlobStore =>
  new BlobStore({
    endpoint: process.env.CANOPY_TEST_S3_ENDPOINT ?? '',
    region: 'us-east-1',
    bucket: 'canopy',
    accessKey: 'test',
    secretKey: 'testsecret',
  });
