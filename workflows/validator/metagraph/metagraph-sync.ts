/** One look at the chain's snapshot, started by a schedule; it owns nothing and re-derives everything. */
import { getExternalWorkflowHandle, isCancellation, log, proxyActivities } from '@temporalio/workflow';
import type {
  MetagraphActivities,
  MetagraphSync,
  Orphan,
} from '../../../activities/validator/metagraph/metagraph-activities.ts';
import { instanceWorkflowId } from '../../ids.ts';
import { requestRemoval } from '../instances/messages.ts';

// A failed look is dropped: the next one is seconds away.
const { syncMetagraph } = proxyActivities<MetagraphActivities>({
  startToCloseTimeout: '20 seconds',
  scheduleToCloseTimeout: '1 minute',
});

export async function metagraphSync({ netuid }: { netuid: number }): Promise<MetagraphSync> {
  const outcome = await syncMetagraph({ netuid, lookedAtMs: Date.now() });
  if (outcome.kind === 'kept') {
    log.warn('metagraph.kept', { netuid, reason: outcome.reason });
    return outcome;
  }
  const { removed, orphans } = outcome;
  if (removed > 0) log.info('metagraph.members_removed', { netuid, removed });
  await Promise.all(orphans.map(askToRemove));
  return outcome;
}

/** Asked again by every look until the row is gone; the first request counts. */
async function askToRemove({ instanceId, minerHotkey, cause }: Orphan): Promise<void> {
  try {
    await getExternalWorkflowHandle(instanceWorkflowId(instanceId)).signal(requestRemoval, {
      code: 'miner_deregistered',
      evidence: { cause },
    });
    log.info('metagraph.orphan_removed', { instanceId, minerHotkey, cause });
  } catch (err) {
    if (isCancellation(err)) throw err;
    log.warn('metagraph.orphan_without_owner', { instanceId, minerHotkey }); // it ended between the look and now
  }
}
