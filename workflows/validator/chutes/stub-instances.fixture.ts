import { condition, defineSignal, getExternalWorkflowHandle, setHandler } from '@temporalio/workflow';
import type { RemovalCode } from '../../domain/instances/removal.ts';
import { chuteWorkflowId } from '../../ids.ts';
import { requestRemoval, type InstanceInput } from '../instances/messages.ts';
import { instanceChanged } from './messages.ts';

/** Bundle of the chute's tests: the real chute, and instances that do what a test tells them. */
export { chuteDeployment } from './chute-deployment.ts';

/** `refuse_removal` makes the instance hold on until told `gone`. */
export const play = defineSignal<[{ fact: 'verified' | 'active' | 'gone' | 'refuse_removal' | 'vanish' }]>('play');

export async function instanceLifecycle({
  instanceId,
  chuteId,
  minerHotkey,
}: InstanceInput): Promise<RemovalCode | null> {
  const chute = getExternalWorkflowHandle(chuteWorkflowId(chuteId));
  let code: RemovalCode | null = null;
  let ended = false;
  let holdsOn = false;
  let vanishes = false;
  setHandler(requestRemoval, (removal) => {
    code ??= removal.code;
    ended = !holdsOn;
  });
  setHandler(play, async ({ fact }) => {
    if (fact === 'refuse_removal') holdsOn = true;
    else if (fact === 'gone') ended = true;
    else if (fact === 'vanish') ended = vanishes = true;
    else await chute.signal(instanceChanged, { instanceId, minerHotkey, status: fact, code: null });
  });
  await condition(() => ended);
  if (!vanishes) await chute.signal(instanceChanged, { instanceId, minerHotkey, status: 'gone', code });
  return code;
}
