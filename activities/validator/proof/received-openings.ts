import { createHash } from 'node:crypto';
import type { BlobStore } from '../../clients/s3.ts';

/**
 * One GPU's openings as the prover sent them; null when they are more than `limitBytes`. Throws when the store does not have
 * the bytes that were received: its fault, not the prover's.
 */
export async function receivedOpenings(
  blobs: Pick<BlobStore, 'stream'>,
  { key, sha256 }: { key: string; sha256: string },
  limitBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array | null> {
  const stream = await blobs.stream(key);
  if (!stream) throw new Error(`openings ${key} are not in the store`);
  const stop = (): void => void stream.destroy(new Error('the verification was cancelled'));
  signal.addEventListener('abort', stop, { once: true });
  const hash = createHash('sha256');
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Uint8Array>) {
      hash.update(chunk);
      sizeBytes += chunk.length;
      if (sizeBytes <= limitBytes) chunks.push(chunk);
    }
  } finally {
    signal.removeEventListener('abort', stop);
  }
  if (hash.digest('hex') !== sha256) throw new Error(`openings ${key} are not the bytes that were received`);
  return sizeBytes > limitBytes ? null : Buffer.concat(chunks);
}
