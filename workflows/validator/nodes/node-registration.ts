import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import {
  allHandlersFinished,
  ApplicationFailure,
  condition,
  log,
  proxyActivities,
  setHandler,
  sleep,
  upsertMemo,
  upsertSearchAttributes,
  type ChildWorkflowHandle,
} from '@temporalio/workflow';
import type { NodeActivities } from '../../../activities/validator/nodes/node-activities.ts';
import type { SweepActivities } from '../../../activities/validator/nodes/sweep-activities.ts';
import { SEARCH_ATTRIBUTES } from '../../search-attributes.ts';
import {
  proofConcluded,
  registerNodes,
  registrationStatus,
  type NodeInput,
  type NodeRegistrationInput,
  type NodeRegistrationState,
  type ProvableNode,
  type RegisterNodes,
  type VerificationOutcome,
} from './messages.ts';
import type { nodeLifecycle } from './node-lifecycle.ts';
import { startLife } from './start-life.ts';
import { verifyInOneWindow } from './verify-in-one-window.ts';
import { settledOf } from './verify-nodes.ts';

const { insertNodes, recordNodesChallenged, recordNodesVerified, recordNodesFailed } = proxyActivities<NodeActivities>({
  startToCloseTimeout: '30 seconds', // resolving the hosts of ten nodes included
  retry: { initialInterval: '200 ms', maximumInterval: '10 seconds', nonRetryableErrorTypes: ['rate.limited'] },
});

const { requestSweep } = proxyActivities<SweepActivities>({ startToCloseTimeout: '30 seconds' });

/** The nodes travel with the start: longer means that they were lost. */
const FIRST_MESSAGE_MS = 60_000;

/**
 * Owns one registration of GPUs: their rows, the life of each (`node/<uuid>`, which outlives it), and one proof of all of
 * them in the same window. Workflow id: `node-registration/<task id>`; ends with the verdict.
 */
export async function nodeRegistration({
  taskId,
  minerHotkey,
  policy,
}: NodeRegistrationInput): Promise<NodeRegistrationState> {
  const state: NodeRegistrationState = { status: 'awaiting', reason: null, uuids: [], attempts: 0 };
  const received: { request: RegisterNodes | null; nodes: ProvableNode[] | null } = { request: null, nodes: null };
  const to = (status: NodeRegistrationState['status'], reason: string | null = null): void => {
    Object.assign(state, { status, reason });
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.hotkey, value: minerHotkey },
      { key: SEARCH_ATTRIBUTES.status, value: status },
      ...(received.request?.serverId ? [{ key: SEARCH_ATTRIBUTES.server, value: received.request.serverId }] : []),
    ]);
  };

  setHandler(registrationStatus, () => state);
  setHandler(registerNodes, async (request) => {
    if (received.request) throw ApplicationFailure.nonRetryable('this task has its nodes already', 'resource.conflict');
    received.request = request; // before the first await
    try {
      const nodes = await insertNodes({ ...request, taskId, minerHotkey });
      state.uuids = nodes.map(({ uuid }) => uuid);
      to('announced');
      received.nodes = nodes;
      return { uuids: state.uuids };
    } catch (err) {
      to('refused', 'the nodes were refused');
      throw err;
    }
  });

  await condition(() => received.nodes !== null || state.status === 'refused', FIRST_MESSAGE_MS);
  await condition(allHandlersFinished);
  const { nodes, request } = received;
  if (!nodes || !request) {
    if (state.status === 'awaiting') to('refused', 'no nodes were given');
    return state;
  }
  upsertMemo({ gpus: nodes.map(({ uuid, gpuType }) => `${gpuType} ${uuid}`).join(', ') });

  const lives: ChildWorkflowHandle<typeof nodeLifecycle>[] = [];
  for (const node of nodes)
    lives.push(
      await startLifeOnceFree({
        node,
        taskId,
        minerHotkey,
        serverId: request.serverId,
        policy,
        awaitsRegistration: true,
      }),
    );
  await recordNodesChallenged({ taskId, minerHotkey, uuids: state.uuids });
  to('challenged');

  const outcome = settledOf(await untilSettled());
  if (outcome.kind === 'verified')
    await recordNodesVerified({ taskId, uuids: state.uuids, minerHotkey, summary: outcome.summary });
  else
    await recordNodesFailed({
      taskId,
      minerHotkey,
      uuids: state.uuids,
      status: 'failed',
      error: outcome.reason,
      summary: outcome.summary,
    });
  to(outcome.kind, outcome.kind === 'failed' ? outcome.reason : null);
  log.info('nodes.registration_concluded', {
    taskId,
    minerHotkey,
    status: state.status,
    reason: state.reason,
    attempts: state.attempts,
  });
  for (const life of lives) {
    await life
      .signal(proofConcluded, outcome)
      .catch((err: unknown) => log.info('node.gone', { workflowId: life.workflowId, error: String(err) }));
  }
  if (outcome.kind === 'verified') await requestSweep({ minerHotkey, withinMs: policy.sweepAfterRegistrationMs });
  return state;

  /** A new proof, with new nonces, while the agent or we ourselves could not bring one to its end. */
  async function untilSettled(): Promise<VerificationOutcome> {
    const startedAtMs = Date.now();
    for (;;) {
      state.attempts++;
      const attempt = await verifyInOneWindow({
        nodes: nodes ?? [],
        minerHotkey,
        plugin: policy.plugin,
        configId: taskId,
      });
      if (attempt.kind === 'verified' || attempt.kind === 'failed') return attempt;
      const graceMs = attempt.kind === 'silent' ? policy.silenceGraceMs : UNCLEAR_GRACE_MS;
      if (Date.now() - startedAtMs >= graceMs) return attempt;
      state.reason = attempt.reason;
      await sleep(policy.retryEveryMs);
    }
  }
}

/** Our own faults are retried for this long before a registration fails. */
const UNCLEAR_GRACE_MS = 3_600_000;

/** The row is ours, so a workflow still under this id is one that is just ending after a deletion. */
async function startLifeOnceFree(input: NodeInput): Promise<ChildWorkflowHandle<typeof nodeLifecycle>> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startLife(input);
    } catch (err) {
      if (!(err instanceof WorkflowExecutionAlreadyStartedError) || attempt >= 100) throw err;
      await sleep('200 ms');
    }
  }
}
