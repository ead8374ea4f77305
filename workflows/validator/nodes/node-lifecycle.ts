import {
  allHandlersFinished,
  condition,
  continueAsNew,
  isCancellation,
  log,
  proxyActivities,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { NodeActivities } from '../../../activities/validator/nodes/node-activities.ts';
import type { SweepActivities } from '../../../activities/validator/nodes/sweep-activities.ts';
import { REGISTRATION_MS } from '../../domain/nodes/node-rules.ts';
import { SEARCH_ATTRIBUTES } from '../../search-attributes.ts';
import {
  deleteNode,
  nodeStatus,
  proofConcluded,
  swept,
  verifyNow,
  type NodeInput,
  type NodeState,
  type NodeStatus,
  type VerificationOutcome,
} from './messages.ts';
import { settledOf } from './verify-nodes.ts';

const { lookUpNode, forgetNode, recordNodesVerified, recordNodesFailed } = proxyActivities<NodeActivities>({
  startToCloseTimeout: '30 seconds',
  retry: { initialInterval: '200 ms', maximumInterval: '10 seconds' },
});
const { requestSweep } = proxyActivities<SweepActivities>({ startToCloseTimeout: '30 seconds' });
const { askDeviceInfo } = proxyActivities<NodeActivities>({
  startToCloseTimeout: '6 minutes', // 20 questions of 12 s
  heartbeatTimeout: '30 seconds',
  retry: { maximumAttempts: 3 },
});

/** A sweep that has begun is over after this, slow groups included. */
const SWEEP_MS = 600_000;

/**
 * Owns one GPU from its announcement to its deletion. After its registration it is proven only together with the miner's other
 * idle GPUs (`minerSweep`), never alone: two names of one piece of hardware would each pass alone. Between sweeps it asks a
 * silent agent whether it is back, and asks for a sweep when one is due. Workflow id: `node/<gpu uuid>`.
 */
export async function nodeLifecycle(input: NodeInput): Promise<NodeState> {
  const { node, taskId, minerHotkey, policy } = input;
  const uuids = [node.uuid];
  const state: NodeState = input.resume ?? {
    status: 'announced',
    reason: null,
    attempts: 0,
    failures: 0,
    lastVerifiedAtMs: null,
    silentSinceMs: null,
    isUnclear: false,
    proof: null,
  };
  const inbox: { registration: VerificationOutcome | null; swept: VerificationOutcome[]; wantsSweep: boolean } = {
    registration: null,
    swept: [],
    wantsSweep: false,
  };
  /** how long the sweep that was asked for may take to come */
  let patienceMs: number | null = null;
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
  setHandler(proofConcluded, (outcome) => void (inbox.registration ??= outcome));
  setHandler(swept, (outcome) => void inbox.swept.push(outcome));
  setHandler(verifyNow, () => void (inbox.wantsSweep = true));
  setHandler(deleteNode, async (request) => {
    await forgetNode({ uuid: node.uuid, minerHotkey, by: request.minerHotkey });
    to('deleted');
    return { deleted: true as const };
  });

  if (!input.resume) await begin();
  while (!isDeleted()) {
    await condition(() => inbox.wantsSweep || inbox.swept.length > 0 || isDeleted(), waitMs());
    patienceMs = null;
    const outcome = inbox.swept.shift();
    if (isDeleted()) break;
    if (outcome) await take(outcome);
    else await lookAfter();
    if (workflowInfo().continueAsNewSuggested && !isDeleted() && inbox.swept.length === 0) {
      await condition(allHandlersFinished);
      if (!isDeleted())
        await continueAsNew<typeof nodeLifecycle>({ ...input, awaitsRegistration: false, resume: state });
    }
  }
  await condition(allHandlersFinished);
  log.info('node.deleted', { uuid: node.uuid, minerHotkey });
  return state;

  async function begin(): Promise<void> {
    to('announced');
    if (input.awaitsRegistration) {
      to('challenged');
      await condition(() => inbox.registration !== null || isDeleted(), REGISTRATION_MS);
    }
    const row = await lookUpNode({ uuid: node.uuid, taskId, minerHotkey });
    if (row.status === 'gone') to('deleted', 'its row is gone'); // deleted before this life began
    else if (inbox.registration) note(settledOf(inbox.registration)); // its registration has written the rows
    else inbox.wantsSweep = row.status !== 'verified';
  }

  /** How long nothing may be heard before this looks after itself. */
  function waitMs(): number {
    if (patienceMs !== null) return patienceMs;
    if (state.status === 'lost' || state.isUnclear) return policy.lostRetryEveryMs;
    if (state.silentSinceMs !== null) return policy.retryEveryMs;
    return state.status === 'verified' ? 2 * policy.reverifyEveryMs : backoffMs(); // past the latest moment of a sweep
  }
  /** A GPU that cannot pass must not have all the others of its miner proven over and over. */
  function backoffMs(): number {
    return Math.min(policy.lostRetryEveryMs * 2 ** Math.max(0, state.failures - 1), policy.reverifyEveryMs);
  }

  /** No sweep has spoken: an agent that was silent is asked whether it is there, everything else is a matter for a sweep. */
  async function lookAfter(): Promise<void> {
    const asked = inbox.wantsSweep;
    inbox.wantsSweep = false;
    const row = await lookUpNode({ uuid: node.uuid, taskId, minerHotkey });
    if (row.status === 'gone') return to('deleted', 'its row is gone');
    if (row.instanceId) return void (state.silentSinceMs = null); // who serves is looked after by the instance
    let withinMs = asked ? 0 : policy.retryEveryMs;
    if (state.silentSinceMs !== null && !asked) {
      if (!(await isBack())) return;
      withinMs = state.status === 'lost' ? backoffMs() : policy.silenceGraceMs;
    }
    await requestSweep({ minerHotkey, withinMs });
    patienceMs = withinMs + SWEEP_MS;
  }

  async function isBack(): Promise<boolean> {
    try {
      const told = await askDeviceInfo({ nodes: [node], minerHotkey });
      if (told.kind === 'answered') return true;
      await take({ kind: 'silent', reason: `device info: ${told.detail}` });
    } catch (err) {
      if (isCancellation(err)) throw err;
      log.warn('node.not_asked', { uuid: node.uuid, error: String(err) });
    }
    return false;
  }

  async function take(outcome: VerificationOutcome): Promise<void> {
    state.isUnclear = outcome.kind === 'unclear'; // try again soon; our own fault never costs the GPU its state
    switch (outcome.kind) {
      case 'unclear':
        break;
      case 'silent':
        // It stays silent until a whole proof comes: one that talks but does not prove is no better than one that is gone.
        state.silentSinceMs ??= Date.now();
        if (Date.now() - state.silentSinceMs < policy.silenceGraceMs || ['lost', 'failed'].includes(state.status))
          break;
        await recordNodesFailed({ taskId, minerHotkey, uuids, status: 'lost', error: outcome.reason, summary: null });
        state.failures++;
        to('lost', outcome.reason);
        break;
      case 'verified':
        await recordNodesVerified({ taskId, uuids, minerHotkey, summary: outcome.summary });
        note(outcome);
        break;
      case 'failed':
        await recordNodesFailed({
          taskId,
          minerHotkey,
          uuids,
          status: 'failed',
          error: outcome.reason,
          summary: outcome.summary,
        });
        note(outcome);
        break;
    }
  }

  function note(outcome: Extract<VerificationOutcome, { kind: 'verified' | 'failed' }>): void {
    state.silentSinceMs = null;
    state.attempts++;
    state.failures = outcome.kind === 'failed' ? state.failures + 1 : 0;
    if (outcome.summary)
      state.proof = { ...outcome.summary, gpus: outcome.summary.gpus.filter(({ gpuUuid }) => gpuUuid === node.uuid) };
    if (outcome.kind === 'verified') state.lastVerifiedAtMs = outcome.atMs;
    to(outcome.kind, outcome.kind === 'failed' ? outcome.reason : null);
  }
}
