import {
  ApplicationFailure,
  condition,
  getExternalWorkflowHandle,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { groupReady, walkNow, type GroupProofInput, type VerificationOutcome } from './messages.ts';
import { verifyNodes } from './verify-nodes.ts';

/** The sweep gives the sign long before; without it the memory is given back. */
const SIGN_MS = 280_000;

/** One host's GPUs of one type within a sweep: they fill, wait for all other groups, and walk with them. */
export async function groupProof({ group, nodes, minerHotkey, plugin }: GroupProofInput): Promise<VerificationOutcome> {
  const { parent, workflowId } = workflowInfo();
  let mayWalk = false;
  setHandler(walkNow, () => void (mayWalk = true));
  return verifyNodes({
    nodes,
    minerHotkey,
    plugin,
    configId: workflowId,
    committed: async () => {
      if (!parent) return;
      await getExternalWorkflowHandle(parent.workflowId, parent.runId).signal(groupReady, { group });
      if (!(await condition(() => mayWalk, SIGN_MS)))
        throw ApplicationFailure.nonRetryable('the sweep gave no sign to walk', 'sweep.no_sign');
    },
  });
}
