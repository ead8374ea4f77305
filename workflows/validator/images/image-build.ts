import {
  ActivityCancellationType,
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  condition,
  isCancellation,
  log,
  proxyActivities,
  setHandler,
  upsertMemo,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import type { ForgeActivities } from '../../../activities/validator/forge/forge-activities.ts';
import type { BuildResult } from '../../domain/images/build-result.ts';
import type { ImageActivities } from '../../../activities/validator/images/image-activities.ts';
import { SEARCH_ATTRIBUTES } from '../../search-attributes.ts';
import { TASK_QUEUES } from '../../task-queues.ts';
import {
  cancelBuild,
  deleteImage,
  imageStatus,
  submitImage,
  type ImageBuildInput,
  type ImageBuildState,
  type SubmitImage,
} from './messages.ts';

const { recordImage, finishBuild, checkDeletable, forgetImage } = proxyActivities<ImageActivities>({
  startToCloseTimeout: '1 minute',
  retry: { initialInterval: '200 ms', maximumInterval: '10 seconds', nonRetryableErrorTypes: ['rate.limited'] },
});

/** How long the first message may take to come: it travels with the start, so longer means that it was lost. */
const FIRST_MESSAGE_MS = 60_000;

/**
 * Owns one image from submission to its end: built, failed or deleted. Workflow id: `image/<imageId>`. A finished build
 * ends the workflow; deletion later starts it anew, so that creating and deleting one image never overlap.
 */
export async function imageBuild({
  imageId,
  deadlineMs,
  heartbeatMs = 30_000,
}: ImageBuildInput): Promise<ImageBuildState> {
  const state: ImageBuildState = { status: 'awaiting', reason: null, submittedAtMs: null, digest: null };
  let submitted: SubmitImage | null = null;
  let stopReason: string | null = null;
  let deletions = 0;
  let building = false;
  const show = (): void => {
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.image, value: imageId },
      { key: SEARCH_ATTRIBUTES.status, value: state.status },
    ]);
  };
  const to = (status: ImageBuildState['status']): void => {
    state.status = status;
    show();
  };

  setHandler(imageStatus, () => state);
  setHandler(submitImage, async (image) => {
    if (submitted) {
      if (submitted.submittedAtMs === image.submittedAtMs) return { imageId };
      throw ApplicationFailure.nonRetryable(`image ${image.name}:${image.tag} exists already`, 'resource.conflict');
    }
    submitted = image; // before the first await: a second submission meets it above
    try {
      await recordImage(image);
    } catch (err) {
      submitted = null;
      if (state.status === 'awaiting' && deletions === 0) to('refused');
      throw err;
    }
    upsertMemo({ image: `${image.username}/${image.name}:${image.tag}` });
    state.submittedAtMs = image.submittedAtMs;
    to('pending build');
    return { imageId };
  });
  setHandler(cancelBuild, async () => {
    if (building || state.status === 'pending build') stopReason ??= 'build was cancelled';
    await condition(() => !building && state.status !== 'pending build');
    return state;
  });
  setHandler(deleteImage, async (request) => {
    deletions++; // the workflow stays until this is done
    try {
      await checkDeletable({ imageId, ...request });
      if (building || state.status === 'pending build') stopReason ??= 'image was deleted while it was built';
      await condition(() => !building && state.status !== 'pending build');
      to('deleting');
      const result = await forgetImage({ imageId, ...request });
      to('deleted');
      return result;
    } catch (err) {
      if (state.status === 'awaiting' || state.status === 'deleting') to('refused');
      throw err;
    } finally {
      deletions--;
    }
  });

  await CancellationScope.nonCancellable(async () => {
    await condition(() => state.status !== 'awaiting', FIRST_MESSAGE_MS);
    await condition(() => state.status !== 'awaiting' || allHandlersFinished()); // a message may still be recording
  });
  if (state.status === 'pending build') await buildSubmitted();
  await CancellationScope.nonCancellable(() => condition(() => deletions === 0 && allHandlersFinished()));
  log.info('image.ended', { imageId, status: state.status, reason: state.reason });
  return state;

  async function buildSubmitted(): Promise<void> {
    if (!submitted) throw new Error('a pending image was never submitted');
    building = true;
    to('building');
    await conclude(await runForge(submitted));
  }

  /** The forge's answer, or why there is none. Returns only when nothing of the build runs. */
  async function runForge(image: SubmitImage): Promise<BuildResult> {
    if (stopReason) return { kind: 'failed', reason: stopReason };
    const scope = new CancellationScope();
    const forge = proxyActivities<ForgeActivities>({
      taskQueue: TASK_QUEUES.forge,
      startToCloseTimeout: deadlineMs,
      heartbeatTimeout: heartbeatMs,
      cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
      // Five hosts, no more: a build that takes its host down must not take down every one for the whole deadline.
      retry: { initialInterval: '1 second', maximumInterval: '30 seconds', maximumAttempts: 5 },
    });
    const built = scope.run(() =>
      forge.buildImage({
        imageId: image.imageId,
        userId: image.userId,
        username: image.username,
        name: image.name,
        tag: image.tag,
        contextKey: image.contextKey,
        contextSha256: image.contextSha256,
        dockerfileKey: image.dockerfileKey,
        dockerfileSha256: image.dockerfileSha256,
        deadlineMs,
      }),
    );
    let answered = false;
    const outcome = built.then(
      (result): BuildResult => {
        answered = true;
        return result;
      },
      (err: unknown): BuildResult => {
        answered = true;
        log.warn('image.forge_failed', {
          imageId,
          stopReason,
          err:
            err instanceof Error
              ? `${err.message}: ${err.cause instanceof Error ? err.cause.message : ''}`
              : String(err),
        });
        return { kind: 'failed', reason: stopReason ?? 'the build hosts failed; please try again' };
      },
    );
    try {
      const inTime = await condition(() => answered || stopReason !== null, deadlineMs);
      if (!inTime) stopReason ??= `build did not finish within ${Math.round(deadlineMs / 1000)} s`;
    } catch (err) {
      if (!isCancellation(err)) throw err;
      stopReason ??= 'build was cancelled'; // of the workflow itself, by an operator
    }
    if (!answered) scope.cancel();
    const result = await outcome;
    // A deletion or a cancel asked for before the answer counts, whatever the forge still managed to do.
    return stopReason ? { kind: 'failed', reason: stopReason } : result;
  }

  async function conclude(result: BuildResult): Promise<void> {
    await CancellationScope.nonCancellable(() => finishBuild({ imageId, result }));
    state.reason = result.kind === 'failed' ? result.reason : null;
    state.digest = result.kind === 'built' && result.artifact.kind === 'oci' ? result.artifact.digest : null;
    building = false;
    to(result.kind === 'built' ? 'built and pushed' : 'failed');
  }
}
