import {
  ActivityFailure,
  allHandlersFinished,
  condition,
  continueAsNew,
  log,
  proxyActivities,
  setHandler,
  uuid4,
  workflowInfo,
} from '@temporalio/workflow';
import type { PolicyActivities, PlannedReaction } from '../../../activities/miner/policy/policy-activities.ts';
import { backoffMs } from '../../domain/miner/rank-scale-up.ts';
import type { MinerEvent, Reaction } from '../../domain/miner/react-to.ts';
import {
  capacityChanged,
  deploymentEnded,
  deploymentReserved,
  gepettoStatus,
  minerEvent,
  resync,
  type GepettoInput,
  type GepettoState,
} from './messages.ts';

// Not longer: what an event asks for is stale after a minute, and reconcile and the next tick repair what was missed.
const { considerEvent, carryOut, planScaleUp } = proxyActivities<PolicyActivities>({
  startToCloseTimeout: '45 seconds',
  scheduleToCloseTimeout: '90 seconds',
  retry: { maximumInterval: '10 seconds' },
});

const DEDUPE_MS = 5000;
const LAUNCHING_MS = 300_000;
const STARTS_PER_TICK = 8;

/** A miner's policy: hears events one by one, looks for work on a tick; each deployment then runs on its own. Id: `gepetto`. */
export async function gepetto(input: GepettoInput): Promise<void> {
  const state: GepettoState = input.carry ?? {
    queue: [],
    refusals: {},
    launching: {},
    seen: {},
    nextTickAtMs: 0,
    mustRefresh: true,
  };
  setHandler(gepettoStatus, () => state);
  setHandler(minerEvent, (event) => {
    const key = `${event.reason} ${JSON.stringify(event.data)}`;
    const isRepeated = (state.seen[key] ?? 0) > Date.now() - DEDUPE_MS;
    if (isRepeated) return;
    state.seen[key] = Date.now();
    state.queue.push(event);
  });
  setHandler(resync, () => {
    state.mustRefresh = true;
    state.nextTickAtMs = 0;
  });
  setHandler(capacityChanged, () => void (state.nextTickAtMs = 0));
  setHandler(deploymentReserved, ({ deploymentId }) => void delete state.launching[deploymentId]);
  setHandler(deploymentEnded, ({ deploymentId, chuteId, code, wasActive }) => {
    delete state.launching[deploymentId];
    if (wasActive) delete state.refusals[chuteId];
    // Nothing of these is mended by asking again at once: a refusal, a failing image, a chute that never activates.
    if (
      ['launch_refused', 'create_failed', 'activation_timeout', 'chute_unknown'].includes(code) ||
      (code === 'process_exited' && !wasActive)
    ) {
      const count = (state.refusals[chuteId]?.count ?? 0) + 1;
      state.refusals[chuteId] = { count, retryAtMs: Date.now() + backoffMs(count) };
    } else if (code !== 'no_gpus') state.nextTickAtMs = 0;
  });

  while (!workflowInfo().continueAsNewSuggested) {
    const untilTickMs = state.nextTickAtMs - Date.now();
    if (untilTickMs > 0) await condition(() => state.queue.length > 0 || state.nextTickAtMs <= Date.now(), untilTickMs);
    expire(state);
    const event = state.queue.shift();
    if (event) await hear(event);
    else if (state.nextTickAtMs <= Date.now()) await tick();
  }
  await condition(allHandlersFinished);
  await continueAsNew<typeof gepetto>({ ...input, carry: state });

  async function hear(event: MinerEvent): Promise<void> {
    try {
      await act(await considerEvent({ event }));
    } catch (err) {
      if (!(err instanceof ActivityFailure)) throw err;
      log.warn('gepetto.event_dropped', { reason: event.reason, why: err.cause?.message ?? err.message });
    }
  }

  async function tick(): Promise<void> {
    state.nextTickAtMs = Date.now() + input.autoscaleIntervalMs;
    const { mustRefresh } = state;
    state.mustRefresh = false;
    const retryAtMs = Object.fromEntries(
      Object.entries(state.refusals).map(([chuteId, refusal]) => [chuteId, refusal.retryAtMs]),
    );
    const pendingChuteIds = Object.values(state.launching).map(({ chuteId }) => chuteId);
    try {
      const { starts } = await planScaleUp({ retryAtMs, pendingChuteIds, mustRefresh, limit: STARTS_PER_TICK });
      await act(
        starts.map(({ chuteId, version }): Reaction => ({ kind: 'start', chuteId, version, onlyServerId: null })),
      );
    } catch (err) {
      if (!(err instanceof ActivityFailure)) throw err;
      state.mustRefresh ||= mustRefresh;
      log.warn('gepetto.tick_failed', { why: err.cause?.message ?? err.message });
    }
  }

  /** New deployments get their ids here, so that carrying out twice starts them once. */
  async function act(reactions: readonly Reaction[]): Promise<void> {
    const planned: PlannedReaction[] = [];
    for (const reaction of reactions) {
      if (reaction.kind === 'ignore') continue;
      const isLaunching =
        reaction.kind === 'start' && Object.values(state.launching).some(({ chuteId }) => chuteId === reaction.chuteId);
      if (isLaunching) continue;
      const newDeploymentId = uuid4();
      if (reaction.kind === 'start')
        state.launching[newDeploymentId] = { chuteId: reaction.chuteId, startedAtMs: Date.now() };
      planned.push({ reaction, newDeploymentId });
    }
    if (planned.length > 0) await carryOut({ planned, settings: input.deployment });
  }
}

function expire(state: GepettoState): void {
  const nowMs = Date.now();
  for (const [key, atMs] of Object.entries(state.seen)) if (atMs <= nowMs - DEDUPE_MS) delete state.seen[key];
  for (const [id, { startedAtMs }] of Object.entries(state.launching))
    if (startedAtMs <= nowMs - LAUNCHING_MS) delete state.launching[id];
  for (const [id, { retryAtMs }] of Object.entries(state.refusals))
    if (retryAtMs <= nowMs - 3_600_000) delete state.refusals[id];
}
