import type { IncomingMessage } from 'node:http';

export type BodyRead =
  | { kind: 'read'; body: Buffer }
  | { kind: 'too_large' }
  | { kind: 'too_slow' }
  | { kind: 'aborted' };

/** The whole body in memory, for it may be sent to more than one instance. Never throws. */
export function readBody(
  req: IncomingMessage,
  { limitBytes, withinMs }: { limitBytes: number; withinMs: number },
): Promise<BodyRead> {
  if (Number(req.headers['content-length'] ?? 0) > limitBytes) return Promise.resolve({ kind: 'too_large' });
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const end = (result: BodyRead): void => {
      clearTimeout(late);
      req.removeAllListeners('data');
      resolve(result);
    };
    const late = setTimeout(() => end({ kind: 'too_slow' }), withinMs);
    req.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > limitBytes) return end({ kind: 'too_large' });
      chunks.push(chunk);
    });
    req.once('end', () =>
      end({ kind: 'read', body: chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks) }),
    );
    req.once('error', () => end({ kind: 'aborted' }));
    req.once('close', () => end({ kind: 'aborted' }));
  });
}
