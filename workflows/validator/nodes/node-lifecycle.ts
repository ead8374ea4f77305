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
import { retrySweepMs } from '../../domain/nodes/sweep-moments.ts';
import { SEARCH_ATTRIBUTES } from '../../search-attributes.ts';
import { TASK_QUEUES } from '../../task-queues.ts';
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

const { lookUpNode, forgetNode } = proxyActivities<NodeActivities>({
  startToCloseTimeout: '30 seconds',
  retry: { initialInterval: '200 ms', maximumInterval: '10 seconds' },
});
const { requestSweep } = proxyActivities<SweepActivities>({ startToCloseTimeout: '30 seconds' });
const { askDeviceInfo } = proxyActivities<NodeActivities>({
  taskQueue: TASK_QUEUES.agents,
  startToCloseTimeout: '30 seconds',
  retry: { maximumAttempts: 3 },
});

/** A sweep that was asked for has come and gone after this, slow groups included. */
const SWEEP_MS = 600_000;
/** Between two questions to an agent that has been away for long. */
const LOST_RETRY_MS = 600_000;

/**
 * Owns one GPU from its announcement to its deletion. After its registration it is proven only together with the miner's other
 * idle GPUs (`minerSweep`, which writes the rows), never alone: two names of one piece of hardware would each pass alone. Between
 * sweeps it asks a lost agent whether it is back, and asks for a sweep when one is due. Workflow id: `node/<gpu uuid>`.
 */
export async function nodeLifecycle(input: NodeInput): Promise<NodeState> {
  const { node, taskId, minerHotkey, policy } = input;
  const state: NodeState = input.resume ?? {
    status: 'announced',
    reason: null,
    attempts: 0,
    failures: 0,
    lastVerifiedAtMs: null,
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
  setHandler(swept, ({ taskId: proven, outcome }) => {
    if (proven === taskId) inbox.swept.push(outcome); // not of a registration before this one
  });
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
    if (outcome) note(outcome);
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
    else inbox.wantsSweep = row.status !== 'verified' && inbox.swept.length === 0;
  }

  /** How long nothing may be heard before this looks after itself. */
  function waitMs(): number {
    if (patienceMs !== null) return patienceMs;
    if (state.status === 'lost') return Math.min(policy.retryEveryMs * 2 ** state.failures, LOST_RETRY_MS);
    return state.status === 'verified' && !state.isUnclear ? 4 * policy.reverifyEveryMs : backoffMs(); // past the latest sweep drawn
  }
  function backoffMs(): number {
    return retrySweepMs(state.failures, policy.reverifyEveryMs);
  }

  /** No sweep has spoken: a lost agent is asked whether it is there, everything else is a matter for a sweep. */
  async function lookAfter(): Promise<void> {
    const asked = inbox.wantsSweep;
    inbox.wantsSweep = false;
    const row = await lookUpNode({ uuid: node.uuid, taskId, minerHotkey });
    if (row.status === 'gone') return to('deleted', 'its row is gone');
    if (row.instanceId) return; // who serves is looked after by the instance
    if (state.status === 'lost' && !asked && !(await isBack())) return;
    const withinMs = asked ? 0 : state.status === 'lost' ? backoffMs() : policy.retryEveryMs;
    await requestSweep({ minerHotkey, withinMs });
    patienceMs = withinMs + SWEEP_MS;
  }

  async function isBack(): Promise<boolean> {
    try {
      const told = await askDeviceInfo({ nodes: [node], minerHotkey });
      if (told.kind === 'answered') return true;
      state.failures++; // asked less often
    } catch (err) {
      if (isCancellation(err)) throw err;
      log.warn('node.not_asked', { uuid: node.uuid, error: String(err) });
    }
    return false;
  }

  /** Silence in a sweep is a loss at once: whoever talks but does not prove would otherwise stay claimable. */
  function note(outcome: VerificationOutcome): void {
    state.isUnclear = outcome.kind === 'unclear'; // try again soon; our own fault never costs the GPU its state
    if (outcome.kind === 'unclear') return;
    state.attempts++;
    state.failures = outcome.kind === 'verified' ? 0 : state.failures + 1;
    if (outcome.kind === 'silent') return to('lost', outcome.reason);
    if (outcome.summary)
      state.proof = { ...outcome.summary, gpus: outcome.summary.gpus.filter(({ gpuUuid }) => gpuUuid === node.uuid) };
    if (outcome.kind === 'verified') state.lastVerifiedAtMs = outcome.atMs;
    to(outcome.kind, outcome.kind === 'failed' ? outcome.reason : null);
  }
}
