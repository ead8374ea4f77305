import {
  CancellationScope,
  condition,
  executeChild,
  getExternalWorkflowHandle,
  isCancellation,
  log,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
  uuid4,
} from '@temporalio/workflow';
import type { SweepActivities } from '../../../activities/validator/nodes/sweep-activities.ts';
import { groupsOf } from '../../domain/nodes/proof-groups.ts';
import { nodeWorkflowId, sweepWorkflowId } from '../../ids.ts';
import { SEARCH_ATTRIBUTES } from '../../search-attributes.ts';
import { outcomeOfGpu } from './gpu-outcomes.ts';
import { groupProof } from './group-proof.ts';
import {
  groupReady,
  swept,
  sweepStatus,
  walkNow,
  type MinerSweepInput,
  type MinerSweepState,
  type ProvableNode,
  type VerificationOutcome,
} from './messages.ts';

const { reserveIdleNodes, releaseNodes, planNextSweep } = proxyActivities<SweepActivities>({
  startToCloseTimeout: '30 seconds',
});

/** A group that has not filled its memory by then walks without the others: its own limits have refused it long before. */
const ALL_READY_MS = 240_000;

/**
 * Proves every idle GPU of a miner in one window: all fill, then all walk at the same moment, so that no hardware answers for
 * two names and none lends its memory. A GPU in a sweep is not claimed; what an instance runs on is left alone. Each group of
 * one type on one host is a child; what came of each GPU is told to its `node/<uuid>`. Workflow id: `sweep/<hotkey>`.
 */
export async function minerSweep({ minerHotkey, plugin }: MinerSweepInput): Promise<MinerSweepState> {
  const sweepId = uuid4();
  const state: MinerSweepState = {
    status: 'reserving',
    gpus: 0,
    groups: 0,
    ready: 0,
    verified: 0,
    failed: 0,
    undecided: 0,
  };
  const ready = new Set<number>();
  const ended = new Set<number>();
  const to = (status: MinerSweepState['status']): void => {
    state.status = status;
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.hotkey, value: minerHotkey },
      { key: SEARCH_ATTRIBUTES.status, value: status },
    ]);
    setCurrentDetails(
      `${state.gpus} idle GPUs in ${state.groups} groups: ${status}, ${state.ready} groups have filled`,
    );
  };
  setHandler(sweepStatus, () => state);
  setHandler(groupReady, ({ group }) => {
    ready.add(group);
    state.ready = ready.size;
  });

  to('reserving');
  const nodes = await reserveIdleNodes({ minerHotkey, sweepId });
  const groups = groupsOf(nodes);
  Object.assign(state, { gpus: nodes.length, groups: groups.length });
  try {
    to('filling');
    const childId = (group: number): string => `${sweepWorkflowId(minerHotkey)}/${sweepId}/${group}`;
    const children = groups.map((members, group) => prove(group, members, childId(group)));
    await condition(() => groups.every((_, group) => ready.has(group) || ended.has(group)), ALL_READY_MS);
    to('walking');
    await Promise.all([...ready].filter((group) => !ended.has(group)).map((group) => tellToWalk(childId(group))));
    await Promise.all(children);
  } finally {
    // Also after a cancel: reservations would outlive the sweep.
    await CancellationScope.nonCancellable(async () => {
      await releaseNodes({ sweepId, uuids: nodes.map(({ uuid }) => uuid) });
      await planNextSweep({ minerHotkey, sweepId });
    });
  }
  to('concluded');
  log.info('sweep.concluded', { minerHotkey, sweepId, ...state });
  return state;

  async function prove(group: number, members: ProvableNode[], workflowId: string): Promise<void> {
    let outcome: VerificationOutcome;
    try {
      outcome = await executeChild(groupProof, { workflowId, args: [{ group, nodes: members, minerHotkey, plugin }] });
    } catch (err) {
      if (isCancellation(err)) throw err;
      outcome = { kind: 'unclear', reason: 'the proof of its group broke off' };
    }
    ended.add(group);
    await releaseNodes({ sweepId, uuids: members.map(({ uuid }) => uuid) });
    await Promise.all(members.map(({ uuid }) => tellNode(uuid, outcomeOfGpu(outcome, uuid, plugin))));
  }

  async function tellNode(uuid: string, outcome: VerificationOutcome): Promise<void> {
    if (outcome.kind === 'verified') state.verified++;
    else if (outcome.kind === 'failed') state.failed++;
    else state.undecided++;
    await getExternalWorkflowHandle(nodeWorkflowId(uuid))
      .signal(swept, outcome)
      .catch((err: unknown) => log.info('node.gone', { uuid, error: String(err) })); // deleted meanwhile
  }

  async function tellToWalk(workflowId: string): Promise<void> {
    await getExternalWorkflowHandle(workflowId)
      .signal(walkNow)
      .catch((err: unknown) => log.info('sweep.group_ended', { workflowId, error: String(err) }));
  }
}
