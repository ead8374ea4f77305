import { TASK_QUEUES } from '../../task-queues.ts';

/** For workers/schedules.ts: three minutes past each hour, when the last records of the hour before are stored. */
export const AUDIT_EXPORT_SCHEDULE = {
  scheduleId: 'audit-export',
  workflowType: 'auditExport',
  workflowId: 'audit-export',
  taskQueue: TASK_QUEUES.validator,
  cron: '3 * * * *',
  /** partitions for the first days are made at deploy, not at the next hour */
  triggerImmediately: true,
} as const;
