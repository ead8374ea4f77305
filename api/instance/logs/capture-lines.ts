import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

/** Calls back with every line of a stream, the unfinished last one included; resolves at its end. */
export async function captureLines(stream: Readable, onLine: (line: string) => void): Promise<void> {
  for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) onLine(line);
}
