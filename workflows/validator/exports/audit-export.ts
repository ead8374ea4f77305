import { continueAsNew, log, proxyActivities } from '@temporalio/workflow';
import type { ExportActivities } from '../../../activities/validator/exports/export-activities.ts';

const { makePartitions, listUnexportedHours } = proxyActivities<ExportActivities>({ startToCloseTimeout: '2 minutes' });
const { exportHour } = proxyActivities<ExportActivities>({
  startToCloseTimeout: '20 minutes', // millions of rows, one pass and one upload
  heartbeatTimeout: '1 minute',
});

/**
 * Owns the hourly files auditors read (spec/validator-internals.md §2.13) and the table's partitions: makes days ahead,
 * then stores every closed hour that has no file yet, oldest first, so that an outage leaves no gap. Run by schedule.
 */
export async function auditExport(): Promise<{ hours: number }> {
  await makePartitions();
  const hours = await listUnexportedHours();
  for (const endMs of hours) {
    // `jobs` last: its row says that the hour is complete
    for (const kind of ['invocations', 'reports', 'jobs'] as const) await exportHour({ kind, endMs });
  }
  log.info('exports.stored', { hours: hours.length });
  if (hours.length > 0) return continueAsNew<typeof auditExport>(); // until nothing is left
  return { hours: 0 };
}
