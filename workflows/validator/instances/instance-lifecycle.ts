/**
 * Owns one launch from permission to removal (workflow id `instance/<instance_id>`). Every deadline ends in a recorded
 * removal with its code; the row, the GPUs and the audit record change only through the activities called here.
 */
import {
  allHandlersFinished,
  CancellationScope,
  condition,
  continueAsNew,
  getExternalWorkflowHandle,
  isCancellation,
  log,
  proxyActivities,
  setHandler,
  setCurrentDetails,
  sleep,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { InstanceActivities } from '../../../activities/validator/instances/instance-activities.ts';
import { judgeSight } from '../../domain/instances/judge-sight.ts';
import { isBlameless, type RemovalCode } from '../../domain/instances/removal.ts';
import { chuteWorkflowId } from '../../ids.ts';
import { SEARCH_ATTRIBUTES } from '../../search-attributes.ts';
import { instanceChanged } from '../chutes/messages.ts';
import { conductLaunch } from './launch-conversation.ts';
import {
  activateInstance,
  announceOpenings,
  claimInstance,
  instanceStatus,
  removeInstance,
  requestRemoval,
  submitCommit,
  submitProof,
  submitWalk,
  type InstanceInput,
  type InstanceState,
  type InstanceStatus,
} from './messages.ts';
import { refuse } from './refuse.ts';

const { setRoutable, stopRouting, forgetInstance } = proxyActivities<InstanceActivities>({
  startToCloseTimeout: '30 seconds',
});
const { probeInstance } = proxyActivities<InstanceActivities>({
  startToCloseTimeout: '20 seconds', // two looks of six seconds and the row
  scheduleToCloseTimeout: '1 minute', // then this look is given up: blindness is not silence
});

export async function instanceLifecycle(input: InstanceInput): Promise<RemovalCode> {
  const { instanceId, configId, chuteId, minerHotkey, deadlines } = input;
  const ids = { instanceId, configId, chuteId, minerHotkey };
  const state: InstanceState = input.resume ?? {
    status: 'permitted',
    session: null,
    claimedAtMs: null,
    answeredAtMs: null,
    activatedAtMs: null,
    removal: null,
  };

  const become = (status: InstanceStatus): void => {
    if (state.status === status) return;
    state.status = status;
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.status, value: status }]);
    log.info('instance.status', { ...ids, status });
  };
  const remove = (code: RemovalCode, evidence: Record<string, unknown> = {}): void => {
    if (state.removal) return;
    state.removal = { code, evidence: { ...evidence, status: state.status } };
    log.info('instance.removal_decided', { ...ids, code });
    conversation.abandonVerification();
  };
  const tellChute = async (status: 'verified' | 'active' | 'gone'): Promise<void> => {
    try {
      await getExternalWorkflowHandle(chuteWorkflowId(chuteId)).signal(instanceChanged, {
        instanceId,
        minerHotkey,
        status,
        code: status === 'gone' ? (state.removal?.code ?? null) : null,
      });
    } catch (err) {
      if (isCancellation(err)) throw err;
      log.info('instance.chute_not_told', { ...ids, status }); // a deleted chute wants to know nothing
    }
  };
  const isEnding = (): boolean => state.removal !== null;
  const isServing = (): boolean => state.status === 'active' || state.status === 'disabled';

  const conversation = conductLaunch({ input, state, become, remove, tellChute });
  setHandler(instanceStatus, () => state);
  setHandler(claimInstance, conversation.claim.answer, { validator: conversation.claim.validate });
  setHandler(submitCommit, conversation.commit.answer, { validator: conversation.commit.validate });
  setHandler(submitWalk, conversation.walk.answer, { validator: conversation.walk.validate });
  setHandler(announceOpenings, conversation.announce.answer, { validator: conversation.announce.validate });
  setHandler(submitProof, conversation.prove.answer, { validator: conversation.prove.validate });
  setHandler(activateInstance, conversation.activate.answer, { validator: conversation.activate.validate });
  setHandler(requestRemoval, ({ code, evidence }) => remove(code, evidence));
  setHandler(
    removeInstance,
    async ({ code, evidence }) => {
      remove(code, evidence);
      await condition(() => state.status === 'gone');
      return { code: state.removal?.code ?? code };
    },
    {
      // Its last words take a moment: what has no row any more is not there, whether or not its workflow still is.
      validator: (_removal) => {
        if (state.status === 'gone') throw refuse('resource.not_found', 'Instance not found');
      },
    },
  );

  upsertSearchAttributes([
    { key: SEARCH_ATTRIBUTES.instance, value: instanceId },
    { key: SEARCH_ATTRIBUTES.chute, value: chuteId },
    { key: SEARCH_ATTRIBUTES.hotkey, value: minerHotkey },
    { key: SEARCH_ATTRIBUTES.status, value: state.status },
  ]);
  setCurrentDetails(`instance of chute ${chuteId} by miner ${minerHotkey}, launch config ${configId}`);
  if (!input.resume) log.info('instance.permitted', ids);

  /** Waits for `done` until the moment given; past it, once no answer is half made, the launch ends with `code`. */
  const awaitStep = async (done: () => boolean, untilMs: number, code: RemovalCode): Promise<void> => {
    if (isEnding()) return;
    const limitMs = untilMs - Date.now();
    const inTime = limitMs > 0 && (await condition(() => isEnding() || done(), limitMs));
    if (!inTime) await condition(() => !conversation.isWriting());
    if (!done()) remove(code, { deadlineMs: untilMs });
  };

  const supervise = async (): Promise<void> => {
    let lookedAtMs = Date.now();
    while (!isEnding()) {
      if (await condition(isEnding, deadlines.probeIntervalMs)) return;
      if (workflowInfo().continueAsNewSuggested) {
        await condition(allHandlersFinished);
        if (!isEnding()) await continueAsNew<typeof instanceLifecycle>({ ...input, resume: state });
      }
      const sight = await look();
      const sinceMs = Date.now() - lookedAtMs;
      lookedAtMs = Date.now();
      if (sight && !isEnding()) await heed(sight, sinceMs);
    }
  };
  const look = async () => {
    try {
      return await probeInstance({ instanceId });
    } catch (err) {
      if (isCancellation(err)) throw err;
      log.warn('instance.probe_blind', ids);
      return null;
    }
  };
  const heed = async (sight: NonNullable<Awaited<ReturnType<typeof look>>>, sinceMs: number): Promise<void> => {
    if (sight.kind === 'missing') return remove('chute_deleted', { found: 'the row was gone' });
    const detail = sight.kind === 'unseen' ? sight.detail : '';
    const judgement = judgeSight(
      { status: state.status === 'disabled' ? 'disabled' : 'active', silentMs: state.silentMs ?? 0 },
      { isServing: sight.kind === 'serving', consecutiveFailures: sight.consecutiveFailures },
      { sinceMs, intervalMs: deadlines.probeIntervalMs, graceMs: deadlines.silenceGraceMs },
    );
    if (judgement.kind === 'remove')
      return remove(judgement.code, {
        detail,
        silentMs: state.silentMs ?? 0,
        consecutiveFailures: sight.consecutiveFailures,
      });
    const { status, silentMs } = judgement.watch;
    state.silentMs = silentMs;
    if (status === state.status) return;
    log.warn('instance.routable_changed', { ...ids, isRoutable: status === 'active', detail });
    await setRoutable({ instanceId, isRoutable: status === 'active', detail });
    if (!isEnding()) become(status);
  };

  /** The gateways turn away, then requests under way get their time. After a fault there is nothing worth waiting for. */
  const drain = async (code: RemovalCode): Promise<void> => {
    const { drainMs = 0 } = deadlines;
    if (drainMs === 0 || !isBlameless(code)) return;
    const { wasRoutable } = await stopRouting({ instanceId });
    if (wasRoutable) await sleep(drainMs);
  };

  try {
    await awaitStep(() => state.claimedAtMs !== null, input.permittedAtMs + deadlines.claimMs, 'claim_timeout');
    const claimedAtMs = state.claimedAtMs ?? 0;
    // Of a real card its type's limits decide, and they may be longer than the network's patience.
    const ownMs = state.session?.plugin === 'povw' ? state.session.deadlineMs : 0;
    const proofMs = Math.max(deadlines.proofMs, ownMs);
    await awaitStep(() => conversation.hasProof() || isServing(), claimedAtMs + proofMs, 'proof_timeout');
    await awaitStep(isServing, claimedAtMs + deadlines.activationMs, 'activation_timeout');
    await supervise();
  } catch (err) {
    if (!isCancellation(err)) throw err;
    remove('operator_requested', { cancelled: true });
  }
  return CancellationScope.nonCancellable(async () => {
    const { code, evidence } = state.removal ?? { code: 'operator_requested' as const, evidence: {} };
    const wasActive = state.status === 'active';
    become('draining');
    await condition(() => !conversation.isWriting());
    if (wasActive) await drain(code);
    await forgetInstance({ instanceId, configId, code, evidence });
    become('gone');
    await tellChute('gone');
    await conversation.dropReceived();
    await condition(allHandlersFinished);
    log.info('instance.removed', { ...ids, code });
    return code;
  });
}
