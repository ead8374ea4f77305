import { log, proxyActivities } from '@temporalio/workflow';
import type {
  HousekeepingActivities,
  Swept,
} from '../../../activities/validator/housekeeping/housekeeping-activities.ts';

// A run that fails is dropped: the next one finds the same rows.
const { sweepOldRows, sweepOldProofs } = proxyActivities<HousekeepingActivities>({
  startToCloseTimeout: '20 minutes', // a first run after a long outage
  heartbeatTimeout: '2 minutes', // one batch, which the database ends after a minute
  scheduleToCloseTimeout: '40 minutes',
});

/** Sweeps what only grows, tables and the proofs' objects, by schedule; it owns nothing and re-derives everything. */
export async function housekeeping(): Promise<Swept> {
  const swept = await sweepOldRows();
  const { deleted: proofObjects } = await sweepOldProofs();
  log.info('housekeeping.swept', { ...swept, proofObjects });
  return swept;
}
