/** Bundle entry of the instance tests: the real lifecycle beside a chute that only writes down what it is told. */
import { condition, defineQuery, defineSignal, setHandler } from '@temporalio/workflow';
import { instanceChanged } from '../../workflows/validator/chutes/messages.ts';

export { instanceLifecycle } from '../../workflows/validator/instances/instance-lifecycle.ts';

export type Told = { instanceId: string; status: string; code: string | null };
export const toldFacts = defineQuery<Told[]>('told');
export const endRecorder = defineSignal('end');

/** Workflow id `chute/<chute_id>`. */
export async function chuteRecorder(): Promise<void> {
  const told: Told[] = [];
  let isOver = false;
  setHandler(toldFacts, () => told);
  setHandler(endRecorder, () => void (isOver = true));
  setHandler(instanceChanged, ({ instanceId, status, code }) => void told.push({ instanceId, status, code }));
  await condition(() => isOver);
}
