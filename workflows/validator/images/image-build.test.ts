import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { CancelledFailure, Context } from '@temporalio/activity';
import type { WorkflowHandleWithStartDetails } from '@temporalio/client';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { bundleWorkflowCode, Worker, type WorkflowBundleWithSourceMap } from '@temporalio/worker';
import { refusalInterceptor } from '../../../activities/refusal-interceptor.ts';
import type { ImageActivities } from '../../../activities/validator/images/image-activities.ts';
import { Refusal } from '../../domain/errors.ts';
import type { BuildResult } from '../../domain/images/build-result.ts';
import { TASK_QUEUES } from '../../task-queues.ts';
import { createTimeSkippingEnvironment } from '../../../workers/testing/workflow-environment.ts';
import type { imageBuild } from './image-build.ts';
import { cancelBuild, deleteImage, imageStatus, submitImage, type SubmitImage } from './messages.ts';

let env: TestWorkflowEnvironment;
let workflowBundle: WorkflowBundleWithSourceMap;
beforeAll(async () => {
  env = await createTimeSkippingEnvironment();
  workflowBundle = await bundleWorkflowCode({
    workflowsPath: new URL('./image-build.ts', import.meta.url).pathname,
    logger: { log() {}, trace() {}, debug() {}, info() {}, warn() {}, error() {} },
  });
}, 60_000);
afterAll(() => env?.teardown());

const BUILT: BuildResult = {
  kind: 'built',
  artifact: {
    kind: 'oci',
    reference: 'r/a/b:c',
    digest: 'sha256:1',
    sizeBytes: 1,
    command: [],
    workingDir: '/',
    env: {},
  },
};
const DEADLINE_MS = 3_600_000;
let count = 0;

interface World {
  imageId: string;
  calls: string[];
  finished: BuildResult[];
  order: SubmitImage;
}

/** Runs one image's workflow against fakes; `forge` null means that no forge is there. */
async function withImage<Result>(
  fakes: {
    forge: ((attempt: number) => Promise<BuildResult>) | null;
    activities?: Partial<ImageActivities>;
    deadlineMs?: number;
  },
  story: (
    world: World & {
      start: () => Promise<WorkflowHandleWithStartDetails<typeof imageBuild>>;
      submit: (over?: Partial<SubmitImage>) => Promise<unknown>;
      handle: () => ReturnType<typeof env.client.workflow.getHandle<typeof imageBuild>>;
    },
  ) => Promise<Result>,
): Promise<Result> {
  const imageId = `image-${++count}`;
  const queue = `validator-${count}`;
  const calls: string[] = [];
  const finished: BuildResult[] = [];
  const order: SubmitImage = {
    imageId,
    userId: 'u',
    username: 'alice',
    name: 'app',
    tag: 'v1',
    readme: '',
    logoId: null,
    public: false,
    chutesVersion: '0',
    contextKey: 'c',
    contextSha256: 'c',
    dockerfileKey: 'd',
    dockerfileSha256: 'd',
    submittedAtMs: 1,
    unlimited: false,
  };
  const common = {
    connection: env.nativeConnection,
    ...(env.namespace ? { namespace: env.namespace } : {}),
    interceptors: { activity: [() => ({ inbound: refusalInterceptor() })] },
  };
  const validator = await Worker.create({
    ...common,
    taskQueue: queue,
    workflowBundle,
    activities: {
      recordImage: async () => void calls.push('record'),
      finishBuild: async ({ result }: { result: BuildResult }) => {
        calls.push('finish');
        finished.push(result);
      },
      checkDeletable: async () => void calls.push('check'),
      forgetImage: async () => {
        calls.push('forget');
        return { deleted: true };
      },
      ...fakes.activities,
    },
  });
  const { forge } = fakes;
  const forgeWorker =
    forge &&
    (await Worker.create({
      ...common,
      taskQueue: TASK_QUEUES.forge,
      maxHeartbeatThrottleInterval: 100,
      activities: {
        buildImage: () => {
          calls.push('build');
          return forge(Context.current().info.attempt);
        },
      },
    }));
  const handle = () => env.client.workflow.getHandle<typeof imageBuild>(`image/${imageId}`);
  // The time-skipping server knows no update with start; the routes' test uses the real one.
  const start = () =>
    env.client.workflow.start<typeof imageBuild>('imageBuild', {
      workflowId: `image/${imageId}`,
      taskQueue: queue,
      workflowIdConflictPolicy: 'USE_EXISTING',
      args: [{ imageId, deadlineMs: fakes.deadlineMs ?? DEADLINE_MS, heartbeatMs: 1_500 }],
    });
  const submit = async (over: Partial<SubmitImage> = {}) =>
    (await start()).executeUpdate(submitImage, { args: [{ ...order, ...over }] });
  const running = story({ imageId, calls, finished, order, handle, start, submit });
  const both = forgeWorker ? validator.runUntil(() => forgeWorker.runUntil(running)) : validator.runUntil(running);
  return both;
}

/** Builds until cancelled, as the forge does: heartbeats carry the cancel. */
const untilCancelled = (calls: string[]) => async (): Promise<BuildResult> => {
  const beat = setInterval(() => Context.current().heartbeat(), 20);
  try {
    return await Context.current().cancelled;
  } catch (err) {
    calls.push('killed');
    throw err instanceof CancelledFailure ? err : new CancelledFailure('stopped');
  } finally {
    clearInterval(beat);
  }
};

test('a submission is recorded before it is answered, built and finished', () =>
  withImage({ forge: async () => BUILT }, async ({ submit, handle, finished, calls, imageId }) => {
    expect(await submit()).toEqual({ imageId });
    expect(calls[0]).toBe('record');
    expect(await handle().result()).toMatchObject({ status: 'built and pushed', digest: 'sha256:1' });
    expect(finished).toEqual([BUILT]);
  }));

test('a Dockerfile that fails is not tried again and ends with its message', () =>
  withImage(
    { forge: async () => ({ kind: 'failed', reason: 'line 2: returned 1' }) },
    async ({ submit, handle, calls }) => {
      await submit();
      expect(await handle().result()).toMatchObject({ status: 'failed', reason: 'line 2: returned 1' });
      expect(calls).toEqual(['record', 'build', 'finish']);
    },
  ));

test('a refused row refuses the submission with its code and ends the workflow', () =>
  withImage(
    {
      forge: null,
      activities: {
        recordImage: async () => {
          throw new Refusal('resource.conflict', 'exists already');
        },
      },
    },
    async ({ submit, handle }) => {
      await expect(submit()).rejects.toMatchObject({ cause: { cause: { type: 'resource.conflict' } } });
      expect(await handle().result()).toMatchObject({ status: 'refused' });
    },
  ));

test('the daily limit refuses at once, it is not waited for', () =>
  withImage(
    {
      forge: null,
      activities: {
        recordImage: async () => {
          throw new Refusal('rate.limited', 'too many');
        },
      },
    },
    async ({ submit }) => {
      await expect(submit()).rejects.toMatchObject({ cause: { cause: { type: 'rate.limited' } } });
    },
  ));

test('a second submission while one builds is a conflict; the same one again is not', () => {
  let release: (result: BuildResult) => void = () => {};
  const gate = new Promise<BuildResult>((resolve) => {
    release = resolve;
  });
  return withImage({ forge: () => gate }, async ({ submit, handle, imageId, calls }) => {
    await submit();
    await expect(submit({ submittedAtMs: 2 })).rejects.toMatchObject({ cause: { type: 'resource.conflict' } });
    expect(await submit()).toEqual({ imageId });
    release(BUILT);
    await handle().result();
    expect(calls.filter((call) => call === 'record')).toHaveLength(1);
  });
});

test('with no forge at all the deadline ends the build', () =>
  withImage({ forge: null, deadlineMs: 2_000 }, async ({ submit, handle, finished }) => {
    await submit();
    expect(await handle().result()).toMatchObject({ status: 'failed', reason: 'build did not finish within 2 s' });
    expect(finished).toHaveLength(1);
  }));

test('a forge that dies is noticed by its silence and the build is tried again', () =>
  withImage(
    { forge: (attempt) => (attempt === 1 ? Context.current().cancelled : Promise.resolve(BUILT)) },
    async ({ submit, handle, calls }) => {
      await submit();
      while (!calls.includes('build')) await new Promise((wake) => setTimeout(wake, 20));
      expect(await handle().result()).toMatchObject({ status: 'built and pushed' });
      expect(calls.filter((call) => call === 'build')).toHaveLength(2);
    },
  ));

test('a fault of the host is tried again; after five hosts the build ends', () =>
  withImage(
    {
      forge: async () => {
        throw new Error('disk full');
      },
    },
    async ({ submit, handle, calls }) => {
      await submit();
      expect(await handle().result()).toMatchObject({
        status: 'failed',
        reason: expect.stringContaining('build hosts failed'),
      });
      expect(calls.filter((call) => call === 'build')).toHaveLength(5);
    },
  ));

test('cancelling ends the build only after the forge has stopped', async () => {
  const killed: string[] = [];
  await withImage({ forge: untilCancelled(killed) }, async ({ submit, handle, finished, calls }) => {
    await submit();
    while (!calls.includes('build')) await new Promise((wake) => setTimeout(wake, 20));
    expect((await handle().query(imageStatus)).status).toBe('building');
    expect(await handle().executeUpdate(cancelBuild)).toMatchObject({
      status: 'failed',
      reason: 'build was cancelled',
    });
    expect(killed).toEqual(['killed']);
    expect(finished).toEqual([{ kind: 'failed', reason: 'build was cancelled' }]);
  });
});

test('deleting while it builds stops the build first, then forgets the image', async () => {
  const killed: string[] = [];
  await withImage({ forge: untilCancelled(killed) }, async ({ submit, start, handle, calls }) => {
    await submit();
    while (!calls.includes('build')) await new Promise((wake) => setTimeout(wake, 20));
    const request = { userId: 'u', unlimited: false, requestedAtMs: 5 };
    expect(await (await start()).executeUpdate(deleteImage, { args: [request] })).toEqual({ deleted: true });
    expect(killed).toEqual(['killed']);
    expect(calls.slice(-2)).toEqual(['finish', 'forget']);
    expect(await handle().result()).toMatchObject({ status: 'deleted' });
  });
});

test('an old image is deleted by a workflow of its own; one in use is refused', async () => {
  const request = { userId: 'u', unlimited: false, requestedAtMs: 5 };
  await withImage({ forge: null }, async ({ start, handle, calls }) => {
    expect(await (await start()).executeUpdate(deleteImage, { args: [request] })).toEqual({ deleted: true });
    expect(await handle().result()).toMatchObject({ status: 'deleted' });
    expect(calls).toEqual(['check', 'forget']);
  });
  await withImage(
    {
      forge: null,
      activities: {
        checkDeletable: async () => {
          throw new Refusal('resource.conflict', 'in use');
        },
      },
    },
    async ({ start, handle, calls }) => {
      await expect((await start()).executeUpdate(deleteImage, { args: [request] })).rejects.toMatchObject({
        cause: { cause: { type: 'resource.conflict' } },
      });
      expect(await handle().result()).toMatchObject({ status: 'refused' });
      expect(calls).toEqual([]);
    },
  );
});

test('an operator who cancels the workflow itself leaves a finished image, not a stuck one', async () => {
  const killed: string[] = [];
  await withImage({ forge: untilCancelled(killed) }, async ({ submit, handle, finished, calls }) => {
    await submit();
    while (!calls.includes('build')) await new Promise((wake) => setTimeout(wake, 20));
    await handle().cancel();
    expect(await handle().result()).toMatchObject({ status: 'failed', reason: 'build was cancelled' });
    expect(killed).toEqual(['killed']);
    expect(finished).toHaveLength(1);
  });
});
