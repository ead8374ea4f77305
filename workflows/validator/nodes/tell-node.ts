import { getExternalWorkflowHandle, isCancellation, log } from '@temporalio/workflow';
import { nodeWorkflowId } from '../../ids.ts';
import { swept, type IdleNode, type NodePolicy, type VerificationOutcome } from './messages.ts';
import { startLife } from './start-life.ts';

/** What came of a GPU in a sweep, to its `node/<uuid>`. One that somebody has ended lives again, if its row is still there. */
export async function tellNode(node: IdleNode, outcome: VerificationOutcome, policy: NodePolicy): Promise<void> {
  const { taskId, minerHotkey, serverId, ...provable } = node;
  const message = { uuid: node.uuid, taskId, outcome };
  const workflowId = nodeWorkflowId(node.uuid);
  try {
    return await getExternalWorkflowHandle(workflowId).signal(swept, message);
  } catch (err) {
    if (isCancellation(err)) throw err;
    log.info('node.revived', { workflowId, error: String(err) });
  }
  try {
    const life = await startLife({
      node: provable,
      taskId,
      minerHotkey,
      serverId,
      policy,
      awaitsRegistration: false,
    });
    await life.signal(swept, message);
  } catch (err) {
    if (isCancellation(err)) throw err;
    log.warn('node.not_told', { workflowId, error: String(err) }); // deleted meanwhile, or registered anew
  }
}
