import { defineQuery, defineUpdate } from '@temporalio/workflow';

/** Input of `image/<image_id>`. The first update says what is wanted: an image to build, or an old one to delete. */
export interface ImageBuildInput {
  imageId: string;
  /** all of it: waiting for a forge, every attempt, recording; milliseconds */
  deadlineMs: number;
  /** how soon a killed forge is noticed and the build tried on another; default 30 s */
  heartbeatMs?: number;
}

/** Everything of a `POST /images/` once checked; the bytes are in S3. */
export interface SubmitImage {
  imageId: string;
  userId: string;
  username: string;
  name: string;
  tag: string;
  readme: string;
  logoId: string | null;
  public: boolean;
  chutesVersion: string;
  contextKey: string;
  contextSha256: string;
  dockerfileKey: string;
  dockerfileSha256: string;
  /** when the API took it: tells a repeated submission from a second one */
  submittedAtMs: number;
  /** the caller's role frees them from the daily limit */
  unlimited: boolean;
}

export interface DeleteImage {
  userId: string;
  unlimited: boolean;
  requestedAtMs: number;
}

export interface ImageBuildState {
  status:
    | 'awaiting'
    | 'pending build'
    | 'building'
    | 'built and pushed'
    | 'failed'
    | 'deleting'
    | 'deleted'
    | 'refused';
  /** why it failed */
  reason: string | null;
  submittedAtMs: number | null;
  digest: string | null;
}

/** Refuses `resource.conflict` (409) for a taken name, `rate.limited` (429). Returns once the row exists. */
export const submitImage = defineUpdate<{ imageId: string }, [SubmitImage]>('submitImage');
/** Returns when nothing of the build runs any more; its image ends as `error: …`. A finished build is left as it is. */
export const cancelBuild = defineUpdate<ImageBuildState, []>('cancelBuild');
/** Cancels what runs, then deletes. Refuses `resource.conflict` (409) while a chute uses the image. */
export const deleteImage = defineUpdate<{ deleted: boolean }, [DeleteImage]>('deleteImage');
export const imageStatus = defineQuery<ImageBuildState>('status');
