/** Bundle entry of the metagraph's test: the real sync beside instances that only write down what they are asked. */
import { condition, defineQuery, setHandler } from '@temporalio/workflow';
import { requestRemoval } from '../../workflows/validator/instances/messages.ts';

export { metagraphSync } from '../../workflows/validator/metagraph/metagraph-sync.ts';

export type Asked = { code: string; evidence?: Record<string, unknown> };
export const removalsAsked = defineQuery<Asked[]>('asked');

/** Workflow id `instance/<instance_id>`. */
export async function removalRecorder(): Promise<void> {
  const asked: Asked[] = [];
  setHandler(removalsAsked, () => asked);
  setHandler(requestRemoval, (removal) => void asked.push(removal));
  await condition(() => false);
}
