import { WorkflowNotFoundError, type Client, type WorkflowHandle } from '@temporalio/client';
import type { Response } from 'express';
import type { Knex } from 'knex';
import { readLaunch, type LaunchRow } from '../../../activities/validator/instances/launch-store.ts';
import { Refusal, type RefusalCode } from '../../../workflows/domain/errors.ts';
import { instanceWorkflowId } from '../../../workflows/ids.ts';
import type { instanceLifecycle } from '../../../workflows/validator/instances/instance-lifecycle.ts';
import { launchOf } from '../auth/auth.ts';

export const LAUNCH_PATH = '/instances/launch_config';

/** The launch whose token the request carries. */
export async function launchNow(db: Knex, res: Response): Promise<LaunchRow> {
  const launch = await readLaunch(db, launchOf(res).configId);
  if (!launch) throw new Refusal('auth.unauthorized', 'launch token is not known');
  return launch;
}

export const instanceOfLaunch = (
  { workflow }: Client,
  { instance_id: id }: LaunchRow,
): WorkflowHandle<typeof instanceLifecycle> => workflow.getHandle(instanceWorkflowId(id));

/** An instance whose workflow has ended is gone, whatever is asked of it. */
export async function orEnded<T>(
  asked: Promise<T>,
  code: RefusalCode = 'resource.not_found',
  detail = 'Instance was deleted',
): Promise<T> {
  try {
    return await asked;
  } catch (err) {
    throw err instanceof WorkflowNotFoundError ? new Refusal(code, detail, { cause: err }) : err;
  }
}
