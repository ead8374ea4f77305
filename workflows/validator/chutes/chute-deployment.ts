import {
  allHandlersFinished,
  ApplicationFailure,
  condition,
  continueAsNew,
  getExternalWorkflowHandle,
  log,
  ParentClosePolicy,
  proxyActivities,
  setHandler,
  startChild,
  upsertMemo,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { ChuteActivities } from '../../../activities/validator/chutes/chute-activities.ts';
import { decideLaunch } from '../../domain/chutes/decide-launch.ts';
import { planChute, planRollingUpdate, type ChuteStep } from '../../domain/chutes/plan-chute.ts';
import { instanceWorkflowId } from '../../ids.ts';
import { SEARCH_ATTRIBUTES } from '../../search-attributes.ts';
import { requestRemoval, type InstanceInput } from '../instances/messages.ts';
import {
  chuteStatus,
  deleteChute,
  demandSeen,
  deployChute,
  instanceChanged,
  requestLaunch,
  setTargetCount,
  type ChuteInput,
  type ChuteMemory,
  type ChuteState,
} from './messages.ts';

const activities = proxyActivities<ChuteActivities>({
  startToCloseTimeout: '30 seconds',
  retry: { maximumInterval: '30 seconds' },
});
// A miner waits for the answer: a database that is away for longer is a refusal, and nothing was promised.
const answering = proxyActivities<ChuteActivities>({
  startToCloseTimeout: '10 seconds',
  scheduleToCloseTimeout: '40 seconds',
  retry: { maximumInterval: '5 seconds' },
});

/** How often memory is held against the rows, so that no lost signal counts for ever. */
const LOOK_AT_ROWS_MS = 300_000;
const RESERVED = 'reserved/';
const EMPTY: ChuteMemory = {
  deployment: null,
  launches: {},
  rolling: null,
  deleting: false,
  deleted: false,
  wantingSinceMs: null,
  announcedAtMs: null,
  demanded: false,
};

/**
 * Owns the desired state of one chute: its version, how many instances it wants, who may launch the next. The only writer of its
 * row, so two miners cannot both get the last slot. Ends when the chute is deleted. Workflow id: `chute/<chuteId>`.
 */
export async function chuteDeployment(input: ChuteInput): Promise<void> {
  const { chuteId, resume, lookAtRowsMs = LOOK_AT_ROWS_MS } = input;
  const memory: ChuteMemory = resume ?? { ...EMPTY, launches: {} };
  let loaded = resume !== undefined;
  let changed = true;
  let busy = false;
  let reservations = 0;
  let reservationNo = 0;
  /** ids drawn, child not yet acknowledged: facts may arrive, but there is nobody to ask yet */
  const starting = new Set<string>();
  let goneWhileLooking: string[] = [];
  let status: ChuteState['status'] = 'deploying';
  let lookAtRowsAtMs = Date.now() + lookAtRowsMs;

  const isFree = (): boolean => loaded && !busy;
  /** Several waiters wake together: each looks again before it goes on. */
  const turn = async (): Promise<void> => {
    while (!isFree()) await condition(isFree);
  };
  /** One writer of the row at a time, handlers and loop alike. */
  const exclusively = async <Result>(write: () => Promise<Result>): Promise<Result> => {
    await turn();
    busy = true;
    try {
      return await write();
    } finally {
      busy = false;
      changed = true;
    }
  };

  /** A write that failed may still have been made: the rows say. */
  const rereading = async <Result>(write: () => Promise<Result>): Promise<Result> => {
    try {
      return await write();
    } catch (err) {
      const { deployment, rolling } = await activities.loadChute({ chuteId });
      Object.assign(memory, { deployment, rolling });
      throw err;
    }
  };

  setHandler(chuteStatus, (): ChuteState => ({
    status,
    deployment: memory.deployment,
    launches: memory.launches,
    wantingSinceMs: memory.wantingSinceMs,
  }));
  setHandler(demandSeen, () => {
    memory.demanded = changed = true;
  });
  setHandler(instanceChanged, ({ instanceId, status: fact, code }) => {
    changed = true;
    if (fact === 'gone') {
      delete memory.launches[instanceId];
      goneWhileLooking.push(instanceId);
      log.info('chute.instance_gone', { chuteId, instanceId, code });
      return;
    }
    const launch = memory.launches[instanceId];
    if (!launch) return void (lookAtRowsAtMs = 0); // unknown here: the rows say what it is
    launch.verified = true;
    if (fact === 'active') launch.active = true;
  });
  setHandler(deployChute, (deploy) =>
    exclusively(async () => {
      refuseWhileDeleting(memory);
      const previous = memory.deployment;
      if (previous?.version === deploy.version && previous.public === deploy.public) {
        throw refusal('resource.conflict', `This chute is already deployed with version ${deploy.version}.`);
      }
      const moves = previous !== null && previous.version !== deploy.version;
      const rolling = moves
        ? planRollingUpdate({
            nowMs: Date.now(),
            oldVersion: previous.version,
            newVersion: deploy.version,
            launches: memory.launches,
          })
        : memory.rolling;
      const saved = await rereading(() => answering.saveDeployment({ ...deploy, rolling }));
      memory.deployment = { chuteId, version: deploy.version, public: deploy.public, targetCount: saved.targetCount };
      memory.rolling = rolling;
      memory.announcedAtMs = null;
      return { version: deploy.version, created: previous === null };
    }),
  );
  setHandler(setTargetCount, ({ targetCount }) =>
    exclusively(async () => {
      refuseWhileDeleting(memory);
      const { deployment } = memory;
      if (!deployment) throw refusal('resource.not_found', 'chute not found');
      await rereading(() => answering.saveTargetCount({ chuteId, targetCount }));
      memory.deployment = { ...deployment, targetCount };
      memory.announcedAtMs = null;
      return { targetCount };
    }),
  );
  setHandler(deleteChute, async () => {
    await condition(() => loaded);
    if (!memory.deployment) throw refusal('resource.not_found', 'chute not found');
    memory.deleting = changed = true;
    await condition(() => memory.deleted);
    return { chuteId };
  });
  setHandler(requestLaunch, async (request) => {
    await turn();
    const { deployment } = memory;
    if (!deployment || memory.deleting) throw refusal('resource.not_found', 'chute not found');
    const nowMs = Date.now();
    const decision = decideLaunch({
      nowMs,
      minerHotkey: request.minerHotkey,
      version: deployment.version,
      targetCount: deployment.targetCount,
      launches: memory.launches,
      permitted: memory.rolling?.permitted ?? null,
      wantingSinceMs: memory.wantingSinceMs,
      ...(request.rivals === undefined ? {} : { rivals: request.rivals }),
    });
    if (decision.kind === 'refused') throw refusal('launch.not_scalable', decision.detail);

    // Promised before the first await: the next request already counts it.
    const reservation = `${RESERVED}${reservationNo++}`;
    const launch = {
      minerHotkey: request.minerHotkey,
      version: deployment.version,
      permittedAtMs: nowMs,
      verified: false,
      active: false,
      removal: null,
      lot: Math.random(),
    };
    const { rolling } = memory;
    const spent =
      rolling !== null &&
      decision.permitted !== null &&
      decision.permitted[request.minerHotkey] !== rolling.permitted[request.minerHotkey];
    memory.launches[reservation] = launch;
    if (rolling && spent && decision.permitted) rolling.permitted = decision.permitted;
    reservations++;
    changed = true;
    let instanceId: string | null = null;
    try {
      const ids = await answering.drawLaunchIds();
      instanceId = ids.instanceId;
      starting.add(instanceId);
      const issued = await answering.issueLaunch({
        ...request,
        ...ids,
        chuteId,
        version: deployment.version,
        permitted: spent ? (rolling?.permitted ?? null) : null,
      });
      const input: InstanceInput = {
        instanceId: ids.instanceId,
        configId: ids.configId,
        chuteId,
        chuteVersion: deployment.version,
        minerHotkey: request.minerHotkey,
        permittedAtMs: issued.permittedAtMs,
        deadlines: issued.deadlines,
      };
      // Recorded first: the child's own facts may arrive before its start is acknowledged.
      memory.launches[ids.instanceId] = launch;
      delete memory.launches[reservation];
      await startChild('instanceLifecycle', {
        workflowId: instanceWorkflowId(ids.instanceId),
        args: [input],
        parentClosePolicy: ParentClosePolicy.ABANDON,
        typedSearchAttributes: [
          { key: SEARCH_ATTRIBUTES.chute, value: chuteId },
          { key: SEARCH_ATTRIBUTES.instance, value: ids.instanceId },
          { key: SEARCH_ATTRIBUTES.hotkey, value: request.minerHotkey },
        ],
        memo: { chute: chuteId, miner: request.minerHotkey },
      });
      log.info('chute.launch_permitted', { chuteId, ...ids, minerHotkey: request.minerHotkey });
      return ids;
    } catch (err) {
      delete memory.launches[reservation];
      if (instanceId !== null) {
        delete memory.launches[instanceId];
        await activities.forgetLaunch({ instanceId, code: 'launch_failed' }); // its row may have been written
      }
      if (rolling && spent) rolling.permitted[request.minerHotkey] = (rolling.permitted[request.minerHotkey] ?? 0) + 1;
      throw err;
    } finally {
      if (instanceId !== null) starting.delete(instanceId);
      reservations--;
      changed = true;
    }
  });

  if (!loaded) {
    Object.assign(memory, await activities.loadChute({ chuteId }));
    loaded = true;
    if (memory.rolling) memory.rolling.nextNoticeAtMs = Date.now();
  }

  const take = async (step: ChuteStep): Promise<void> => {
    switch (step.kind) {
      case 'remove':
        return askToRemove(step);
      case 'notify_update':
        return notifyUpdate(step.instanceId);
      case 'end_update':
        return exclusively(async () => {
          if (!memory.rolling) return;
          await activities.endRollingUpdate({ chuteId, newVersion: memory.rolling.newVersion });
          memory.rolling = null;
        });
      case 'announce':
        memory.announcedAtMs = Date.now();
        memory.demanded = false;
        return activities.announceBounty({ chuteId, bounty: step.bounty });
    }
  };

  async function askToRemove({ instanceId, code }: Extract<ChuteStep, { kind: 'remove' }>): Promise<void> {
    const launch = memory.launches[instanceId];
    if (!launch) return;
    launch.removal = code;
    try {
      await getExternalWorkflowHandle(instanceWorkflowId(instanceId)).signal(requestRemoval, { code });
    } catch (err) {
      // Nobody there to ask: it ended and its last word was lost, or it was never started.
      log.warn('chute.instance_without_owner', { chuteId, instanceId, err: String(err) });
      await activities.forgetLaunch({ instanceId, code });
      delete memory.launches[instanceId];
    }
  }

  async function notifyUpdate(instanceId: string): Promise<void> {
    const { rolling } = memory;
    if (!rolling) return;
    const launch = memory.launches[instanceId];
    rolling.waiting = rolling.waiting.filter((id) => id !== instanceId);
    if (!launch || launch.removal !== null) return;
    rolling.nextNoticeAtMs = Date.now() + rolling.gapMs;
    await activities.announceUpdate({
      chuteId,
      instanceId,
      minerHotkey: launch.minerHotkey,
      oldVersion: rolling.oldVersion,
      newVersion: rolling.newVersion,
    });
  }

  async function lookAtRows(): Promise<void> {
    lookAtRowsAtMs = Date.now() + lookAtRowsMs;
    goneWhileLooking = [];
    const seen = await activities.inspectLaunches({
      chuteId,
      instanceIds: Object.keys(memory.launches).filter((id) => !id.startsWith(RESERVED)),
    });
    for (const instanceId of seen.gone) delete memory.launches[instanceId];
    for (const [instanceId, row] of Object.entries(seen.live)) {
      const known = memory.launches[instanceId];
      if (known) Object.assign(known, { verified: known.verified || row.verified, active: known.active || row.active });
      else if (!goneWhileLooking.includes(instanceId) && !starting.has(instanceId)) memory.launches[instanceId] = row;
    }
  }

  // A workflow started only to answer (a delete of what is not there) ends once it has.
  while (!memory.deployment) {
    const asked = await condition(() => memory.deployment !== null || !allHandlersFinished(), '5 seconds');
    if (!asked) return;
    await condition(() => memory.deployment !== null || allHandlersFinished());
  }

  for (;;) {
    const { deployment } = memory;
    if (!deployment) return;
    if (memory.deleting && Object.keys(memory.launches).length === 0 && reservations === 0) break;
    changed = false;
    if (Date.now() >= lookAtRowsAtMs) await lookAtRows();
    const plan = planChute({
      ...memory,
      nowMs: Date.now(),
      version: deployment.version,
      targetCount: deployment.targetCount,
    });
    memory.wantingSinceMs = plan.wantingSinceMs;
    if (plan.wantingSinceMs === null) memory.announcedAtMs = null;
    if (status !== plan.status) {
      status = plan.status;
      upsertSearchAttributes([
        { key: SEARCH_ATTRIBUTES.chute, value: chuteId },
        { key: SEARCH_ATTRIBUTES.status, value: status },
      ]);
      upsertMemo({ wants: deployment.targetCount, version: deployment.version, status });
    }
    // A launch whose start is under way cannot be asked to end yet; it is planned for again once it is recorded.
    const steps = plan.steps.filter(
      (step) => step.kind !== 'remove' || !(step.instanceId.startsWith(RESERVED) || starting.has(step.instanceId)),
    );
    for (const step of steps) await take(step);
    if (workflowInfo().continueAsNewSuggested && !memory.deleting) {
      await condition(() => allHandlersFinished() || memory.deleting); // a deletion waits for this loop
      if (!memory.deleting) await continueAsNew<typeof chuteDeployment>({ ...input, resume: memory });
    }
    if (steps.length > 0) continue; // what was done may ask for more
    const wakeAtMs = Math.min(lookAtRowsAtMs, plan.wakeAtMs ?? Infinity);
    await condition(() => changed, Math.max(1, wakeAtMs - Date.now()));
  }

  await exclusively(() => activities.forgetChute({ chuteId }));
  memory.deployment = null;
  memory.deleted = true;
  status = 'deleted';
  upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.status, value: status }]);
  log.info('chute.deleted', { chuteId });
  await condition(allHandlersFinished);
}

const refusal = (
  code: 'resource.conflict' | 'resource.not_found' | 'launch.not_scalable',
  detail: string,
): ApplicationFailure => ApplicationFailure.nonRetryable(detail, code);

function refuseWhileDeleting({ deleting }: ChuteMemory): void {
  if (deleting) throw refusal('resource.conflict', 'chute is being deleted');
}
