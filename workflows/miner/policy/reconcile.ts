import {
  ActivityFailure,
  condition,
  continueAsNew,
  log,
  proxyActivities,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type { ReconcileActivities } from '../../../activities/miner/policy/reconcile-activities.ts';
import { reconcileNow, reconcileStatus, type ReconcileInput, type ReconcileState } from './messages.ts';

const { planCorrections } = proxyActivities<ReconcileActivities>({
  startToCloseTimeout: '3 minutes',
  scheduleToCloseTimeout: '5 minutes',
  retry: { maximumInterval: '30 seconds' },
});
// One try a round: what still holds is planned again in the next one.
const { applyCorrection } = proxyActivities<ReconcileActivities>({
  startToCloseTimeout: '5 minutes',
  heartbeatTimeout: '1 minute',
  retry: { maximumAttempts: 1 },
});

/** Compares what the validator, the rows and the driver say, and corrects with reasons (spec/miner.md §5.4). Id: `reconcile`. */
export async function reconcile(input: ReconcileInput): Promise<void> {
  const state: ReconcileState = { ranAtMs: null, lastActions: [], lastError: null };
  let isDue = true;
  setHandler(reconcileStatus, () => state);
  setHandler(reconcileNow, () => void (isDue = true));
  while (!workflowInfo().continueAsNewSuggested) {
    await condition(() => isDue, input.intervalMs);
    isDue = false;
    try {
      state.lastError = null;
      state.lastActions = await planCorrections(input.rules);
    } catch (err) {
      if (!(err instanceof ActivityFailure)) throw err;
      state.lastError = err.cause?.message ?? err.message;
      state.lastActions = [];
      log.warn('reconcile.blind', { why: state.lastError });
    }
    for (const action of state.lastActions) {
      log.info('reconcile.correction', { ...action });
      try {
        await applyCorrection({ action, settings: input.deployment });
      } catch (err) {
        if (!(err instanceof ActivityFailure)) throw err;
        log.warn('reconcile.correction_failed', { kind: action.kind, why: err.cause?.message ?? err.message });
      }
    }
    state.ranAtMs = Date.now();
  }
  await continueAsNew<typeof reconcile>(input);
}
