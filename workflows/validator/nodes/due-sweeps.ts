import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import { log, ParentClosePolicy, proxyActivities, startChild } from '@temporalio/workflow';
import type { SweepActivities } from '../../../activities/validator/nodes/sweep-activities.ts';
import { sweepWorkflowId } from '../../ids.ts';
import type { NodePolicy } from './messages.ts';
import { minerSweep } from './miner-sweep.ts';

const { dueSweepsOf } = proxyActivities<SweepActivities>({
  startToCloseTimeout: '30 seconds',
  scheduleToCloseTimeout: '2 minutes', // then the schedule's next run looks
});

/** By schedule: starts the sweep of each miner whose moment has come. A sweep still under way is left alone. */
export async function dueSweeps({ policy }: { policy: NodePolicy }): Promise<{ started: number }> {
  let started = 0;
  for (const { minerHotkey, minerHotkeys } of await dueSweepsOf()) {
    try {
      await startChild(minerSweep, {
        workflowId: sweepWorkflowId(minerHotkey),
        parentClosePolicy: ParentClosePolicy.ABANDON,
        workflowExecutionTimeout: '1 hour',
        memo: { miners: minerHotkeys.join(' ') },
        args: [{ minerHotkeys, policy }],
      });
      started++;
    } catch (err) {
      if (!(err instanceof WorkflowExecutionAlreadyStartedError)) throw err;
    }
  }
  if (started > 0) log.info('sweeps.started', { started });
  return { started };
}
