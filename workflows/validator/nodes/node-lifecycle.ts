import {
  allHandlersFinished,
  condition,
  continueAsNew,
  log,
  proxyActivities,
  setHandler,
  upsertSearchAttributes,
  uuid4,
  workflowInfo,
} from '@temporalio/workflow';
import type { NodeActivities } from '../../../activities/validator/nodes/node-activities.ts';
import { SEARCH_ATTRIBUTES } from '../../search-attributes.ts';
import {
  deleteNode,
  nodeStatus,
  proofConcluded,
  verifyNow,
  type NodeInput,
  type NodeState,
  type NodeStatus,
  type VerificationOutcome,
} from './messages.ts';
import { settledOf, verifyNodes } from './verify-nodes.ts';

const { lookUpNode, forgetNode, recordNodesVerified, recordNodesFailed } = proxyActivities<NodeActivities>({
  startToCloseTimeout: '30 seconds',
  retry: { initialInterval: '200 ms', maximumInterval: '10 seconds' },
});

/** A registration proves within this, its own retries included, or is gone: then the node proves itself. */
const REGISTRATION_MS = 3 * 3_600_000;

/**
 * Owns one GPU from its announcement to its deletion: verified, verified again every period, lost while its agent is
 * silent. A GPU that an instance runs on is left alone until it is free. Workflow id: `node/<gpu uuid>`.
 */
export async function nodeLifecycle(input: NodeInput): Promise<NodeState> {
  const { node, taskId, minerHotkey, policy } = input;
  const uuids = [node.uuid];
  const state: NodeState = input.resume ?? {
    status: 'announced',
    reason: null,
    attempts: 0,
    lastVerifiedAtMs: null,
    silentSinceMs: null,
    isUnclear: false,
    proof: null,
  };
  const asked: { registration: VerificationOutcome | null; now: boolean } = { registration: null, now: false };
  const isDeleted = (): boolean => state.status === 'deleted';
  const to = (status: NodeStatus, reason: string | null = null): void => {
    if (isDeleted()) return; // a proof that ends after the deletion changes nothing
    Object.assign(state, { status, reason });
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.hotkey, value: minerHotkey },
      { key: SEARCH_ATTRIBUTES.status, value: status },
      ...(input.serverId ? [{ key: SEARCH_ATTRIBUTES.server, value: input.serverId }] : []),
    ]);
  };

  setHandler(nodeStatus, () => state);
  setHandler(proofConcluded, (outcome) => void (asked.registration ??= outcome));
  setHandler(verifyNow, () => void (asked.now = true));
  setHandler(deleteNode, async (request) => {
    await forgetNode({ uuid: node.uuid, minerHotkey, by: request.minerHotkey });
    to('deleted');
    return { deleted: true as const };
  });

  if (!input.resume) {
    to('announced');
    if (input.awaitsRegistration) {
      to('challenged');
      state.attempts++;
      await condition(() => asked.registration !== null || isDeleted(), REGISTRATION_MS);
      const row = await lookUpNode({ uuid: node.uuid, taskId, minerHotkey });
      if (row.status === 'gone') to('deleted', 'its row is gone'); // deleted before this life began
      else if (asked.registration) note(settledOf(asked.registration));
      else asked.now = true;
    } else asked.now = (await lookUpNode({ uuid: node.uuid, taskId, minerHotkey })).status !== 'verified';
  }

  while (!isDeleted()) {
    await condition(() => asked.now || isDeleted(), waitMs());
    if (isDeleted()) break;
    asked.now = false;
    const row = await lookUpNode({ uuid: node.uuid, taskId, minerHotkey });
    if (row.status === 'gone') {
      to('deleted', 'its row is gone');
      break;
    }
    if (!row.instanceId && !isDeleted()) await verifyAgain();
    if (workflowInfo().continueAsNewSuggested && !isDeleted()) {
      await condition(allHandlersFinished);
      if (!isDeleted())
        await continueAsNew<typeof nodeLifecycle>({ ...input, awaitsRegistration: false, resume: state });
    }
  }
  await condition(allHandlersFinished);
  log.info('node.deleted', { uuid: node.uuid, minerHotkey });
  return state;

  function waitMs(): number {
    if (state.isUnclear) return policy.lostRetryEveryMs;
    if (state.silentSinceMs === null) return policy.reverifyEveryMs;
    return state.status === 'lost' || state.status === 'failed' ? policy.lostRetryEveryMs : policy.retryEveryMs;
  }

  async function verifyAgain(): Promise<void> {
    state.attempts++;
    const outcome = await verifyNodes({ nodes: [node], minerHotkey, plugin: policy.plugin, configId: uuid4() });
    if (isDeleted()) return;
    state.isUnclear = outcome.kind === 'unclear'; // try again soon; our own fault never costs the GPU its state
    switch (outcome.kind) {
      case 'unclear':
        break;
      case 'silent':
        state.silentSinceMs ??= Date.now();
        if (
          Date.now() - state.silentSinceMs >= policy.silenceGraceMs &&
          state.status !== 'lost' &&
          state.status !== 'failed'
        ) {
          const status = state.status === 'verified' ? 'lost' : 'failed';
          await recordNodesFailed({ taskId, minerHotkey, uuids, status, error: outcome.reason });
          to(status, outcome.reason);
        }
        break;
      case 'verified':
        await recordNodesVerified({ taskId, uuids, minerHotkey, summary: outcome.summary });
        note(outcome);
        break;
      case 'failed':
        await recordNodesFailed({ taskId, minerHotkey, uuids, status: 'failed', error: outcome.reason });
        note(outcome);
        break;
    }
  }

  function note(outcome: Extract<VerificationOutcome, { kind: 'verified' | 'failed' }>): void {
    state.silentSinceMs = null;
    if (outcome.summary)
      state.proof = { ...outcome.summary, gpus: outcome.summary.gpus.filter(({ gpuUuid }) => gpuUuid === node.uuid) };
    if (outcome.kind === 'verified') state.lastVerifiedAtMs = outcome.atMs;
    to(outcome.kind, outcome.kind === 'failed' ? outcome.reason : null);
  }
}
