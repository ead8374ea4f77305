import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Response } from 'express';
import { DONE_FRAME, KEEP_ALIVE_FRAME, renderLogFrame } from '../../../workflows/domain/images/build-log.ts';
import { isFinished } from '../../../workflows/domain/images/image-status.ts';
import type { BuildLogStore } from '../../../activities/validator/images/build-log-store.ts';
import type { ImageStore } from '../../../activities/validator/images/image-store.ts';

const POLL_MS = 250;
const KEEP_ALIVE_MS = 1_000;
const BATCH_LINES = 500;

/**
 * The build-log stream (spec/validator-api.md §2.3): lines as they come, `.` each idle second, `DONE` when the build is
 * over, then the end. Each reader reads the table for itself, so any number of them see everything.
 */
export async function streamBuildLog({
  res,
  imageId,
  fromSeq,
  images,
  logs,
}: {
  res: Response;
  imageId: string;
  fromSeq: number;
  images: ImageStore;
  logs: BuildLogStore;
}): Promise<void> {
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache', 'x-accel-buffering': 'no' });
  res.flushHeaders();
  const gone = new AbortController();
  res.once('close', () => gone.abort());
  let next = fromSeq;
  let wroteAt = Date.now();
  while (!gone.signal.aborted) {
    // The status first: lines read after an end was seen are all there are.
    const image = await images.byId(imageId);
    const lines = await logs.readFrom(imageId, next, BATCH_LINES);
    for (const line of lines) {
      if (!res.write(renderLogFrame(line))) await Promise.race([once(res, 'drain'), once(res, 'close')]);
      next = line.seq + 1;
      wroteAt = Date.now();
    }
    if (lines.length === BATCH_LINES) continue;
    if (!image || isFinished(image.status)) return void res.end(DONE_FRAME);
    if (Date.now() - wroteAt >= KEEP_ALIVE_MS) {
      res.write(KEEP_ALIVE_FRAME);
      wroteAt = Date.now();
    }
    await sleep(POLL_MS, undefined, { signal: gone.signal }).catch(() => {});
  }
}
