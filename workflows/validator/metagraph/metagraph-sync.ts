/** One look at the chain's snapshot, started by a schedule; it owns nothing and re-derives everything. */
import { log, proxyActivities } from '@temporalio/workflow';
import type {
  MetagraphActivities,
  MetagraphSync,
} from '../../../activities/validator/metagraph/metagraph-activities.ts';

// A failed look is dropped: the next one is seconds away.
const { syncMetagraph } = proxyActivities<MetagraphActivities>({
  startToCloseTimeout: '20 seconds',
  scheduleToCloseTimeout: '1 minute',
});

export async function metagraphSync({ netuid }: { netuid: number }): Promise<MetagraphSync> {
  const outcome = await syncMetagraph({ netuid });
  if (outcome.kind === 'kept') log.warn('metagraph.kept', { netuid, reason: outcome.reason });
  else if (outcome.removed > 0) log.info('metagraph.members_removed', { netuid, removed: outcome.removed });
  return outcome;
}
