import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import { log, ParentClosePolicy, proxyActivities, startChild } from '@temporalio/workflow';
import type { SweepActivities } from '../../../activities/validator/nodes/sweep-activities.ts';
import type { ProofPluginName } from '../../domain/proof/plugin.ts';
import { sweepWorkflowId } from '../../ids.ts';
import { minerSweep } from './miner-sweep.ts';

const { dueSweepsOf } = proxyActivities<SweepActivities>({
  startToCloseTimeout: '30 seconds',
  scheduleToCloseTimeout: '2 minutes', // then the schedule's next run looks
});

/** By schedule: starts the sweep of each miner whose moment has come. A sweep still under way is left alone. */
export async function dueSweeps({ plugin }: { plugin: ProofPluginName }): Promise<{ started: number }> {
  let started = 0;
  for (const { minerHotkey, minerHotkeys } of await dueSweepsOf()) {
    try {
      await startChild(minerSweep, {
        workflowId: sweepWorkflowId(minerHotkey),
        parentClosePolicy: ParentClosePolicy.ABANDON,
        workflowExecutionTimeout: '1 hour',
        memo: { miners: minerHotkeys.join(' ') },
        args: [{ minerHotkeys, plugin }],
      });
      started++;
    } catch (err) {
      if (!(err instanceof WorkflowExecutionAlreadyStartedError)) throw err;
    }
  }
  if (started > 0) log.info('sweeps.started', { started });
  return { started };
}
