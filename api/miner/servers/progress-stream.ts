import { once } from 'node:events';
import type { Request, Response } from 'express';
import type { ServerState } from '../../../workflows/miner/servers/messages.ts';

/**
 * The add-node stream (spec/miner.md §2.2.2): `data: {"timestamp","message"}` and a blank line for each step, from the
 * first one on, until provisioning ends. Failure is a message. The workflow runs on whether anybody reads or not.
 */
export async function streamProgress(
  req: Request,
  res: Response,
  { look, pollMs }: { look: () => Promise<ServerState | null>; pollMs: number },
): Promise<void> {
  const closed = once(res, 'close');
  res.status(200);
  req.socket.setNoDelay(true);
  for (let sent = 0; !res.destroyed;) {
    const state = await look().catch(() => null); // a worker that restarts cannot answer for a moment
    for (const line of state?.progress.slice(sent) ?? []) {
      if (!res.write(`data: ${JSON.stringify(line)}\n\n`)) await Promise.race([once(res, 'drain'), closed]);
      sent++;
    }
    if (state && state.status !== 'provisioning') return void res.end();
    await Promise.race([new Promise((resolve) => setTimeout(resolve, pollMs)), closed]);
  }
}
