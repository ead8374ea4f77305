import { once } from 'node:events';
import type { Response } from 'express';

/**
 * The list stream of spec/validator-api.md §2.7: `data: ` + compact JSON + blank line each. Before the first item an error is an ordinary
 * answer; after it the connection is cut, because a list that just ends would look shorter than it is and miners delete by it.
 */
export async function streamItems(
  res: Response,
  items: AsyncIterable<unknown>,
  { whenEmpty }: { whenEmpty?: string } = {},
): Promise<void> {
  let sent = false;
  const write = async (text: string): Promise<void> => {
    if (!sent)
      res.writeHead(200, {
        'content-type': 'text/event-stream',
        'cache-control': 'no-cache',
        'x-accel-buffering': 'no',
      });
    sent = true;
    if (!res.write(`data: ${text}\n\n`) && !res.destroyed) await Promise.race([once(res, 'drain'), once(res, 'close')]);
  };
  try {
    for await (const item of items) {
      if (res.destroyed) return;
      await write(JSON.stringify(item));
    }
    if (!sent && whenEmpty !== undefined) await write(whenEmpty);
    if (!sent) res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
    res.end();
  } catch (err) {
    if (!sent) throw err;
    res.destroy(err instanceof Error ? err : undefined);
  }
}
