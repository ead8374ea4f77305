import {
  ActivityFailure,
  allHandlersFinished,
  CancellationScope,
  condition,
  continueAsNew,
  getExternalWorkflowHandle,
  isCancellation,
  log,
  proxyActivities,
  setHandler,
  sleep,
  upsertSearchAttributes,
  workflowInfo,
  ApplicationFailure,
} from '@temporalio/workflow';
import type { ServerActivities } from '../../../activities/miner/servers/server-activities.ts';
import { GEPETTO_WORKFLOW_ID } from '../../ids.ts';
import { SEARCH_ATTRIBUTES } from '../../search-attributes.ts';
import { capacityChanged } from '../policy/messages.ts';
import { removeServer, serverStatus, setServerLock, type ServerInput, type ServerState } from './messages.ts';

const { markVerified, lockServer, recordHealth, beginRemoval, drainServer, forgetServer } =
  proxyActivities<ServerActivities>({
    startToCloseTimeout: '30 seconds',
    retry: { maximumInterval: '30 seconds' },
  });
const { trackServer, advertise, verificationStatus } = proxyActivities<ServerActivities>({
  startToCloseTimeout: '45 seconds',
  scheduleToCloseTimeout: '2 minutes',
  retry: { maximumInterval: '10 seconds' },
});
// The validator may be away: its rows of our GPUs are worth an hour of tries, not a server that can never be removed.
const { withdraw } = proxyActivities<ServerActivities>({
  startToCloseTimeout: '1 minute',
  scheduleToCloseTimeout: '1 hour',
  retry: { maximumInterval: '1 minute' },
});

/** Owns one GPU server: add-node, health, lock, drained removal. Id: `server/<server_id>`. */
export async function serverLifecycle(input: ServerInput): Promise<ServerState['status']> {
  const { serverId } = input;
  const state: ServerState = {
    status: input.resume?.status ?? 'provisioning',
    progress: input.resume?.progress ?? [],
    failure: null,
  };
  const removal = { isAsked: input.resume?.status === 'removing' };
  setHandler(serverStatus, () => state);
  setHandler(removeServer, () => void (removal.isAsked = true));
  setHandler(
    setServerLock,
    async ({ locked }) => {
      await lockServer({ serverId, locked });
      if (!locked) await tellGepetto();
      return { locked };
    },
    {
      validator: (_lock) => {
        if (state.status === 'failed' || state.status === 'gone')
          throw ApplicationFailure.nonRetryable('server is gone', 'resource.not_found');
      },
    },
  );

  if (state.status === 'provisioning') {
    const failure = await provision();
    if (failure !== null) return CancellationScope.nonCancellable(() => undo(failure));
  }
  try {
    while (!removal.isAsked) {
      if (workflowInfo().continueAsNewSuggested) {
        await condition(allHandlersFinished);
        const status = state.status === 'unknown' ? 'unknown' : 'ready';
        await continueAsNew<typeof serverLifecycle>({
          ...input,
          resume: { status, progress: state.progress.slice(-20) },
        });
      }
      if (await condition(() => removal.isAsked, input.healthIntervalMs)) break;
      // A silent agent makes the server unknown: it gets no new work, and nothing of it is deleted (design rule 6).
      const health = await recordHealth({ serverId });
      if (health !== null && health !== state.status) {
        enter(health);
        if (health === 'ready') await tellGepetto();
      }
    }
  } catch (err) {
    if (!isCancellation(err)) throw err;
  }
  return CancellationScope.nonCancellable(remove);

  /** Null once verified; otherwise why not. */
  async function provision(): Promise<string | null> {
    const startedAtMs = Date.now();
    say(`attempting to add node ${input.name} with server uid ${serverId}`);
    try {
      const tracked = await trackServer(input);
      if (tracked.kind === 'refused') return tracked.why;
      say(`server ${input.name} with uid ${serverId} is tracked in the database, provisioning`);
      say(`discovered ${tracked.gpuCount} GPUs [${tracked.models.join(', ')}], advertising them to the validator`);
      const advertised = await advertise({ serverId });
      if (advertised.kind === 'refused') return advertised.why;
      say(`advertised to ${input.validator}, verification task ${advertised.taskId}`);
      for (let polls = 0; !removal.isAsked; polls++) {
        const verdict = await verificationStatus({ taskId: advertised.taskId });
        if (verdict.status === 'verified') break;
        if (verdict.status !== 'pending') return `the validator did not verify the GPUs: ${verdict.detail}`;
        if (Date.now() - startedAtMs > input.verifyDeadlineMs)
          return `not verified within ${input.verifyDeadlineMs / 1000} s`;
        say('waiting for the validator to verify the GPUs');
        await sleep(polls < 30 ? 1000 : 5000);
      }
      if (removal.isAsked) return 'removal was requested';
      say('the validator verified the GPUs');
      await markVerified({ serverId });
    } catch (err) {
      if (err instanceof ActivityFailure) return err.cause?.message ?? err.message;
      if (isCancellation(err)) return 'cancelled';
      throw err;
    }
    enter('ready');
    say(`completed server bootstrapping in ${((Date.now() - startedAtMs) / 1000).toFixed(1)} seconds`);
    await tellGepetto();
    return null;
  }

  async function undo(failure: string): Promise<ServerState['status']> {
    await withdrawQuietly();
    await forgetServer({ serverId });
    state.failure = failure;
    say(`failed to add node ${input.name}: ${failure}`);
    enter('failed');
    return state.status;
  }

  async function remove(): Promise<ServerState['status']> {
    enter('removing');
    await beginRemoval({ serverId });
    while ((await drainServer({ serverId })).deploymentsLeft > 0) await sleep(5000);
    await withdrawQuietly();
    await condition(allHandlersFinished);
    await forgetServer({ serverId });
    enter('gone');
    return state.status;
  }

  async function withdrawQuietly(): Promise<void> {
    try {
      await withdraw({ serverId });
    } catch (err) {
      if (!(err instanceof ActivityFailure)) throw err;
      log.warn('server.not_withdrawn', { serverId, why: err.cause?.message ?? err.message });
    }
  }

  function say(message: string): void {
    state.progress.push({ timestamp: new Date().toISOString().slice(0, -1), message });
  }
  function enter(status: ServerState['status']): void {
    state.status = status;
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.status, value: status }]);
  }
}

async function tellGepetto(): Promise<void> {
  try {
    await getExternalWorkflowHandle(GEPETTO_WORKFLOW_ID).signal(capacityChanged);
  } catch (err) {
    if (isCancellation(err) || !(err instanceof ApplicationFailure)) throw err;
    log.debug('server.gepetto_not_told');
  }
}
