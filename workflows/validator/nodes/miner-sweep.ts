import {
  allHandlersFinished,
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
  workflowInfo,
} from '@temporalio/workflow';
import type { SweepActivities } from '../../../activities/validator/nodes/sweep-activities.ts';
import { groupsOf } from '../../domain/nodes/proof-groups.ts';
import type { WindowMember } from '../../domain/nodes/sweep-windows.ts';
import { SEARCH_ATTRIBUTES } from '../../search-attributes.ts';
import { outcomeOfGpu } from './gpu-outcomes.ts';
import { groupProof } from './group-proof.ts';
import {
  groupReady,
  groupWalked,
  sweepStatus,
  walkNow,
  type IdleNode,
  type MinerSweepInput,
  type MinerSweepState,
  type VerificationOutcome,
} from './messages.ts';
import { tellNode } from './tell-node.ts';
import { areTogether } from './verify-in-one-window.ts';

const { reserveIdleNodes, releaseNodes, concludeNodes, recordCompany } = proxyActivities<SweepActivities>({
  startToCloseTimeout: '30 seconds',
  retry: { initialInterval: '200 ms', maximumInterval: '10 seconds' },
});

/** A group's own limits have refused it long before: this is for queues that stand still. */
const ALL_READY_MS = 240_000;

/**
 * Proves every idle GPU of the miners in one window: all fill, then all walk at the same moment, so that no hardware answers for
 * two names and none lends its memory. A GPU in a sweep is not claimed; what an instance runs on is left alone. Each group of
 * one type on one host is a child. What came of each GPU is in its row before it can be claimed again, and is told to its
 * `node/<uuid>`. Workflow id: `sweep/<hotkey>`.
 */
export async function minerSweep({
  minerHotkeys,
  policy,
  readyWithinMs = ALL_READY_MS,
}: MinerSweepInput): Promise<MinerSweepState> {
  const sweepId = uuid4();
  const state: MinerSweepState = {
    status: 'reserving',
    miners: minerHotkeys.length,
    gpus: 0,
    groups: 0,
    ready: 0,
    verified: 0,
    failed: 0,
    lost: 0,
    unclear: 0,
  };
  const ready = new Set<number>();
  const ended = new Set<number>();
  const startedAtMs = new Map<number, number>();
  const late = new Set<number>();
  const outcomes = new Map<string, VerificationOutcome['kind'][]>();
  const to = (status: MinerSweepState['status']): void => {
    state.status = status;
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.hotkey, value: minerHotkeys[0] ?? '' },
      { key: SEARCH_ATTRIBUTES.status, value: status },
    ]);
    setCurrentDetails(
      `${state.gpus} idle GPUs of ${state.miners} miners in ${state.groups} groups: ${status}, ${state.ready} groups have filled`,
    );
  };
  const childId = (group: number): string => `${workflowInfo().workflowId}/${sweepId}/${group}`;
  setHandler(sweepStatus, () => state);
  setHandler(groupWalked, ({ group, startedAtMs: at }) => void startedAtMs.set(group, at));
  setHandler(groupReady, async ({ group }) => {
    ready.add(group);
    state.ready = ready.size;
    if (state.status !== 'walking') return;
    late.add(group);
    await tellGroup(group, { mayWalk: false });
  });

  to('reserving');
  const nodes = await reserveIdleNodes({ minerHotkeys, sweepId });
  const groups = groupsOf(nodes);
  Object.assign(state, { gpus: nodes.length, groups: groups.length });
  try {
    to('filling');
    const children = Promise.all(groups.map((members, group) => prove(group, members)));
    children.catch(() => undefined); // a cancel ends the wait below first, and then this too: nobody would be listening
    await condition(() => groups.every((_, group) => ready.has(group) || ended.has(group)), readyWithinMs);
    const onTime = [...ready].filter((group) => !ended.has(group));
    to('walking');
    await Promise.all(onTime.map((group) => tellGroup(group, { mayWalk: true })));
    await children;
    const members = membersOf(outcomes);
    if (members.length > 1) await recorded(members);
  } finally {
    // Also after a cancel: reservations would outlive the sweep.
    const uuids = nodes.map(({ uuid }) => uuid);
    await CancellationScope.nonCancellable(() => releaseNodes({ sweepId, uuids }));
  }
  await condition(allHandlersFinished);
  to('concluded');
  log.info('sweep.concluded', { minerHotkeys, sweepId, ...state });
  return state;

  async function recorded(members: WindowMember[]): Promise<void> {
    for (const { broke, beside, times } of await recordCompany({ sweepId, members }))
      log.warn('sweep.never_together', { broke, beside, times });
  }

  async function prove(group: number, members: IdleNode[]): Promise<void> {
    const [{ minerHotkey } = { minerHotkey: '' }] = members;
    let outcome: VerificationOutcome;
    try {
      outcome = await executeChild(groupProof, {
        workflowId: childId(group),
        args: [{ group, nodes: members, minerHotkey, plugin: policy.plugin }],
      });
    } catch (err) {
      if (isCancellation(err)) throw err;
      outcome = { kind: 'unclear', reason: 'the proof of its group broke off' };
    }
    ended.add(group);
    // What this group proved depends on when the others walked.
    await condition(() => [...ready].every((each) => startedAtMs.has(each) || ended.has(each) || late.has(each)));
    if (outcome.kind === 'verified' && !areTogether([...startedAtMs.values()]))
      outcome = { kind: 'unclear', reason: 'the walks of this sweep did not begin together' };
    const outcomeOf = (uuid: string): VerificationOutcome => outcomeOfGpu(outcome, uuid, policy.plugin);
    const concluded = members.map(({ uuid, taskId }) => ({ uuid, taskId, outcome: outcomeOf(uuid) }));
    await concludeNodes({ sweepId, minerHotkey, nodes: concluded });
    for (const each of concluded) state[COUNTED[each.outcome.kind]]++;
    const kinds = concluded.map((each) => each.outcome.kind);
    outcomes.set(minerHotkey, [...(outcomes.get(minerHotkey) ?? []), ...kinds]);
    await Promise.all(members.map((member) => tellNode(member, outcomeOf(member.uuid), policy)));
  }

  async function tellGroup(group: number, sign: { mayWalk: boolean }): Promise<void> {
    await getExternalWorkflowHandle(childId(group))
      .signal(walkNow, sign)
      .catch((err: unknown) => log.info('sweep.group_ended', { group, error: String(err) }));
  }
}

/** The validator's own faults speak for and against nobody. */
function membersOf(outcomes: ReadonlyMap<string, VerificationOutcome['kind'][]>): WindowMember[] {
  return [...outcomes].flatMap(([minerHotkey, kinds]) => {
    const held = kinds.every((kind) => kind === 'verified');
    const broke = kinds.some((kind) => kind === 'failed' || kind === 'silent');
    return held || broke ? [{ minerHotkey, gpus: kinds.length, held }] : [];
  });
}

const COUNTED = { verified: 'verified', failed: 'failed', silent: 'lost', unclear: 'unclear' } as const;
