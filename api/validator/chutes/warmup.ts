import { setTimeout as sleep } from 'node:timers/promises';
import { WorkflowNotFoundError } from '@temporalio/client';
import type { Response } from 'express';
import { chuteWorkflowId } from '../../../workflows/ids.ts';
import { demandSeen } from '../../../workflows/validator/chutes/messages.ts';
import type { ValidatorDeps } from '../deps.ts';
import { readBounties, type ChuteRow } from './chute-queries.ts';

const POLL_MS = 5_000;
const GIVE_UP_MS = 600_000;

type Deps = Pick<ValidatorDeps, 'db' | 'temporal' | 'log'> & { pollMs?: number };

/**
 * Warm-up (spec/validator-api.md §2.4.7, §7.4): frames `cold` until an instance serves, then one `hot`; ends silently after ten minutes.
 * `quick` answers once, as JSON. Every look tells the chute's workflow that somebody wants it.
 */
export async function answerWarmup(
  { db, temporal, log, pollMs = POLL_MS }: Deps,
  chute: ChuteRow,
  res: Response,
  quick: boolean,
): Promise<void> {
  const isHot = (instances: readonly { active: boolean; verified: boolean }[]) =>
    instances.some((instance) => instance.active && instance.verified);
  const demand = async (): Promise<void> => {
    try {
      await temporal.workflow.getHandle(chuteWorkflowId(chute.chute_id)).signal(demandSeen);
    } catch (err) {
      if (!(err instanceof WorkflowNotFoundError))
        log.warn({ event: 'chute.demand_not_told', chuteId: chute.chute_id, err }, 'chute.demand_not_told');
    }
  };
  if (quick) {
    const hot = isHot(chute.instances);
    if (!hot) await demand();
    const bounty = (await readBounties(db)).get(chute.chute_id);
    return void res.json({
      status: hot ? 'hot' : 'cold',
      instance_count: chute.instances.length,
      instances: chute.instances.map(({ instance_id, gpu_model_name, gpu_count, active }) => ({
        instance_id,
        gpu_model_name,
        gpu_count,
        active,
      })),
      bounty: !hot && bounty !== undefined ? { amount: bounty, boost: null } : null,
    });
  }
  const gone = new AbortController();
  res.once('close', () => gone.abort());
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache', 'x-accel-buffering': 'no' });
  const frame = (status: 'cold' | 'hot', message: string) =>
    res.write(`data: ${JSON.stringify({ status, log: message })}\n\n`);
  try {
    for (const endAtMs = Date.now() + GIVE_UP_MS; Date.now() < endAtMs && !gone.signal.aborted;) {
      const instances: { active: boolean; verified: boolean }[] = await db('instances')
        .where({ chute_id: chute.chute_id })
        .select('active', 'verified');
      if (isHot(instances)) {
        frame('hot', `chute ${chute.name} has ${instances.length} instance(s) and is ready`);
        break;
      }
      frame('cold', `chute ${chute.name} is not ready: ${instances.length} instance(s) starting, miners were told`);
      await demand();
      await sleep(pollMs, undefined, { signal: gone.signal });
    }
    res.end();
  } catch (err) {
    if (gone.signal.aborted) return;
    log.warn({ event: 'chute.warmup_failed', chuteId: chute.chute_id, err }, 'chute.warmup_failed');
    res.destroy(); // a cut connection, so that nobody takes it for the end
  }
}
