import { ScheduleAlreadyRunning, ScheduleOverlapPolicy, type Client, type ScheduleOptions } from '@temporalio/client';
import { metagraphWorkflowId } from '../workflows/ids.ts';
import { TASK_QUEUES } from '../workflows/task-queues.ts';
import type { auditExport } from '../workflows/validator/exports/audit-export.ts';
import type { housekeeping } from '../workflows/validator/housekeeping/housekeeping.ts';
import type { dueSweeps } from '../workflows/validator/nodes/due-sweeps.ts';
import type { NodePolicy } from '../workflows/validator/nodes/messages.ts';
import type { metagraphSync } from '../workflows/validator/metagraph/metagraph-sync.ts';

export interface ScheduleSettings {
  netuid: number;
  /** how GPUs are proven, and how often */
  nodes: NodePolicy;
}

/** Every schedule of the validator. The run's workflow id gets a timestamp appended by the server. */
const validatorSchedules = ({ netuid, nodes }: ScheduleSettings): ScheduleOptions[] => [
  {
    scheduleId: metagraphWorkflowId(netuid),
    spec: { intervals: [{ every: '30 seconds' }] },
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '1 minute' },
    action: {
      type: 'startWorkflow',
      workflowType: 'metagraphSync' satisfies (typeof metagraphSync)['name'],
      workflowId: metagraphWorkflowId(netuid),
      args: [{ netuid }],
      taskQueue: TASK_QUEUES.validator,
      workflowExecutionTimeout: '5 minutes',
    },
  },
  {
    // Exports every closed hour without a file and makes partitions ahead: how often it looks decides nothing.
    scheduleId: 'audit-export',
    spec: { intervals: [{ every: '10 minutes' }] },
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '10 minutes' },
    action: {
      type: 'startWorkflow',
      workflowType: 'auditExport' satisfies (typeof auditExport)['name'],
      workflowId: 'audit-export',
      args: [],
      taskQueue: TASK_QUEUES.validator,
    },
  },
  {
    // Each miner has a moment of its own, drawn at random: this only looks whose has come.
    scheduleId: 'due-sweeps',
    spec: { intervals: [{ every: '30 seconds' }] },
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '1 minute' },
    action: {
      type: 'startWorkflow',
      workflowType: 'dueSweeps' satisfies (typeof dueSweeps)['name'],
      workflowId: 'due-sweeps',
      args: [{ policy: nodes }],
      taskQueue: TASK_QUEUES.validator,
      workflowExecutionTimeout: '5 minutes',
    },
  },
  {
    scheduleId: 'housekeeping',
    spec: { intervals: [{ every: '1 hour' }] },
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: '10 minutes' },
    action: {
      type: 'startWorkflow',
      workflowType: 'housekeeping' satisfies (typeof housekeeping)['name'],
      workflowId: 'housekeeping',
      args: [],
      taskQueue: TASK_QUEUES.validator,
      workflowExecutionTimeout: '50 minutes',
    },
  },
];

/** Creates or updates each schedule and runs it once now; two workers starting together agree. */
export async function ensureValidatorSchedules(client: Client, options: ScheduleSettings): Promise<void> {
  for (const schedule of validatorSchedules(options)) {
    try {
      await client.schedule.create(schedule);
    } catch (err) {
      if (!(err instanceof ScheduleAlreadyRunning)) throw err;
      const { spec, policies, action } = schedule;
      await client.schedule.getHandle(schedule.scheduleId).update(({ state }) => ({
        state,
        spec,
        policies: policies ?? {},
        action: { ...action, workflowId: action.workflowId ?? schedule.scheduleId },
      }));
    }
    await client.schedule.getHandle(schedule.scheduleId).trigger(ScheduleOverlapPolicy.SKIP);
  }
}
