import {
  ApplicationFailure,
  condition,
  getExternalWorkflowHandle,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { groupReady, groupWalked, walkNow, type GroupProofInput, type VerificationOutcome } from './messages.ts';
import { verifyNodes } from './verify-nodes.ts';

/** The sweep answers long before; a sweep that is gone gives no sign, and the memory is given back. */
const SIGN_MS = 300_000;

/** One host's GPUs of one type within a sweep: they fill, wait for all other groups, and walk with them. */
export async function groupProof({ group, nodes, minerHotkey, plugin }: GroupProofInput): Promise<VerificationOutcome> {
  const { parent, workflowId } = workflowInfo();
  if (!parent) throw ApplicationFailure.nonRetryable('a group is part of a sweep');
  const sweep = getExternalWorkflowHandle(parent.workflowId, parent.runId);
  const sign: { mayWalk: boolean | null } = { mayWalk: null };
  setHandler(walkNow, ({ mayWalk }) => void (sign.mayWalk ??= mayWalk));
  return verifyNodes({
    nodes,
    minerHotkey,
    plugin,
    configId: workflowId,
    window: {
      filled: async () => {
        await sweep.signal(groupReady, { group });
        if (!(await condition(() => sign.mayWalk !== null, SIGN_MS)))
          throw ApplicationFailure.nonRetryable('the sweep gave no sign to walk', 'sweep.no_sign');
        return sign.mayWalk === true;
      },
      walked: async (startedAtMs) => {
        await sweep.signal(groupWalked, { group, startedAtMs }); // the sweep compares the groups
        return true;
      },
    },
  });
}
