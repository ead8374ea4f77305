import {
  ActivityFailure,
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  condition,
  getExternalWorkflowHandle,
  isCancellation,
  log,
  ParentClosePolicy,
  proxyActivities,
  setHandler,
  startChild,
  upsertSearchAttributes,
  ActivityCancellationType,
} from '@temporalio/workflow';
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import type { DeploymentActivities } from '../../../activities/miner/deployments/deployment-activities.ts';
import type { StopCode } from '../../domain/miner/react-to.ts';
import { deploymentWorkflowId, GEPETTO_WORKFLOW_ID } from '../../ids.ts';
import { SEARCH_ATTRIBUTES } from '../../search-attributes.ts';
import { deploymentEnded, deploymentReserved } from '../policy/messages.ts';
import {
  deploymentStatus,
  instanceFact,
  stopDeployment,
  type DeploymentInput,
  type DeploymentRequest,
  type DeploymentState,
} from './messages.ts';

// Rows: the database comes back, and until then nothing may be forgotten.
const { recordFact, markTerminating, forgetDeployment } = proxyActivities<DeploymentActivities>({
  startToCloseTimeout: '15 seconds',
  retry: { maximumInterval: '30 seconds' },
});
const { observe } = proxyActivities<DeploymentActivities>({
  startToCloseTimeout: '45 seconds',
  scheduleToCloseTimeout: '3 minutes',
  retry: { maximumInterval: '20 seconds' },
});
const { reserve, requestLaunch } = proxyActivities<DeploymentActivities>({
  startToCloseTimeout: '45 seconds',
  scheduleToCloseTimeout: '3 minutes',
  retry: { maximumInterval: '20 seconds' },
  // Asked to stop, we wait for its end: what it commits after the removal would be nobody's.
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
});
const { createInstance } = proxyActivities<DeploymentActivities>({
  startToCloseTimeout: '30 minutes', // a large image on a slow line
  scheduleToCloseTimeout: '40 minutes',
  heartbeatTimeout: '30 seconds',
  retry: { maximumInterval: '1 minute' },
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
});
const { deleteRemoteInstance } = proxyActivities<DeploymentActivities>({
  startToCloseTimeout: '45 seconds',
  scheduleToCloseTimeout: '10 minutes',
  retry: { maximumInterval: '1 minute' },
});
// Until the process is gone its GPUs are not free, however long that takes.
const { stopInstance } = proxyActivities<DeploymentActivities>({
  startToCloseTimeout: '10 minutes',
  heartbeatTimeout: '30 seconds',
  retry: { maximumInterval: '1 minute' },
});

/** Owns one deployment from reservation to the moment its GPUs are free, and returns why it ended. Id: `deployment/<id>`. */
export async function deploymentLifecycle(input: DeploymentInput): Promise<StopCode> {
  const { deploymentId, chuteId, settings } = input;
  const state: DeploymentState = {
    phase: 'reserving',
    serverId: null,
    configId: null,
    instanceId: null,
    isVerified: false,
    isActive: false,
    removal: input.resumeStop ?? null,
    detail: null,
  };
  const launching = new CancellationScope({ cancellable: true });
  let successor: DeploymentRequest | null = null;
  let mayHaveRow = true; // an attempt may have reserved without its answer reaching us
  setHandler(deploymentStatus, () => state);
  setHandler(stopDeployment, ({ code, successor: next }) => {
    state.removal ??= code;
    successor ??= next ?? null;
    launching.cancel();
  });
  setHandler(instanceFact, async ({ fact, instanceId }) => {
    if (state.instanceId !== null && state.instanceId !== instanceId) return;
    state.instanceId = instanceId;
    state.isVerified ||= fact !== 'bound';
    state.isActive ||= fact === 'activated';
    await recordFact({ deploymentId, fact, instanceId });
  });

  try {
    if (state.removal === null) await launching.run(launch);
    await condition(() => state.removal !== null);
  } catch (err) {
    if (isCancellation(err)) state.removal ??= 'operator_requested';
    else if (err instanceof ActivityFailure) giveUp(failureCode(state.phase), err.cause?.message ?? err.message);
    else throw err;
  }
  await CancellationScope.nonCancellable(remove);
  return state.removal ?? 'operator_requested';

  async function launch(): Promise<void> {
    const reservation = await reserve({
      deploymentId,
      chuteId,
      version: input.version,
      onlyServerId: input.onlyServerId,
    });
    if (reservation.kind !== 'reserved') {
      mayHaveRow = false;
      return giveUp(reservation.kind, reservation.why);
    }
    state.serverId = reservation.serverId;
    enter('permission');
    await tellGepetto((gepetto) => gepetto.signal(deploymentReserved, { deploymentId }));
    const permission = await requestLaunch({ deploymentId });
    if (permission.kind === 'refused') return giveUp('launch_refused', `${permission.status}: ${permission.detail}`);
    state.configId = permission.configId;
    enter('creating');
    await createInstance({ deploymentId });
    enter('activating');
    await awaitActivation();
  }

  async function awaitActivation(): Promise<void> {
    const deadlineMs = Date.now() + settings.stubDeadlineMs;
    while (!state.isActive && state.removal === null) {
      const left = deadlineMs - Date.now();
      if (left <= 0) return giveUp('activation_timeout', `not active within ${settings.stubDeadlineMs / 1000} s`);
      if (await condition(() => state.isActive || state.removal !== null, Math.min(settings.pollMs, left))) break;
      const seen = await observe({ deploymentId });
      if (seen.compute === 'exited') return giveUp('process_exited', `ended with code ${seen.exitCode ?? 'unknown'}`);
      if (seen.instance === null) continue;
      const { instanceId } = seen.instance;
      state.instanceId ??= instanceId;
      state.isVerified ||= seen.instance.isVerified;
      state.isActive ||= seen.instance.isActive;
      await recordFact({
        deploymentId,
        fact: state.isActive ? 'activated' : state.isVerified ? 'verified' : 'bound',
        instanceId,
      });
    }
    if (state.removal === null) enter('active');
  }

  function giveUp(code: StopCode, detail: string): void {
    state.removal ??= code;
    state.detail ??= detail;
  }

  function enter(phase: DeploymentState['phase']): void {
    state.phase = phase;
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.status, value: phase },
      ...(state.serverId === null ? [] : [{ key: SEARCH_ATTRIBUTES.server, value: state.serverId }]),
    ]);
  }

  /** The validator stops routing, the process drains and ends, and only then are the GPUs free (spec/miner.md §5.3). */
  async function remove(): Promise<void> {
    const code = state.removal ?? 'operator_requested';
    const wasActive = state.isActive;
    enter('terminating');
    if (mayHaveRow) {
      await markTerminating({ deploymentId, code });
      try {
        await deleteRemoteInstance({ deploymentId });
      } catch (err) {
        if (!(err instanceof ActivityFailure)) throw err;
        log.warn('deployment.instance_not_deleted', { deploymentId }); // reconcile deletes what no row claims
      }
      await stopInstance({ deploymentId });
      await condition(allHandlersFinished);
      await forgetDeployment({ deploymentId });
    }
    enter('gone');
    log.info('deployment.gone', { deploymentId, chuteId, code, detail: state.detail });
    if (successor !== null) await startSuccessor(successor);
    await tellGepetto((gepetto) => gepetto.signal(deploymentEnded, { deploymentId, chuteId, code, wasActive }));
  }

  async function startSuccessor(request: DeploymentRequest): Promise<void> {
    try {
      await startChild(deploymentLifecycle, {
        workflowId: deploymentWorkflowId(request.deploymentId),
        args: [{ ...request, settings }],
        parentClosePolicy: ParentClosePolicy.ABANDON,
        typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.chute, value: request.chuteId }],
      });
    } catch (err) {
      if (!(err instanceof WorkflowExecutionAlreadyStartedError)) throw err;
    }
  }
}

type Gepetto = ReturnType<typeof getExternalWorkflowHandle>;

/** Gepetto may be down for a moment or not exist: its own look at the rows makes up for what it was not told. */
async function tellGepetto(tell: (gepetto: Gepetto) => Promise<void>): Promise<void> {
  try {
    await tell(getExternalWorkflowHandle(GEPETTO_WORKFLOW_ID));
  } catch (err) {
    if (isCancellation(err) || !(err instanceof ApplicationFailure)) throw err;
    log.debug('deployment.gepetto_not_told');
  }
}

function failureCode(phase: DeploymentState['phase']): StopCode {
  return phase === 'reserving'
    ? 'no_gpus'
    : phase === 'permission'
      ? 'launch_refused'
      : phase === 'creating'
        ? 'create_failed'
        : 'activation_timeout';
}
