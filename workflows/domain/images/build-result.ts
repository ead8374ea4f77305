import type { ImageArtifact } from '../protocol/image-artifact.ts';

/** What a forge was asked to build; the bytes are in S3 under the keys. */
export interface BuildOrder {
  imageId: string;
  userId: string;
  username: string;
  name: string;
  tag: string;
  contextKey: string;
  contextSha256: string;
  dockerfileKey: string;
  dockerfileSha256: string;
  /** one attempt may take this long */
  deadlineMs: number;
}

/** `failed` is the user's doing (or a limit they met) and is never retried; `reason` is shown to them. */
export type BuildResult = { kind: 'built'; artifact: ImageArtifact } | { kind: 'failed'; reason: string };
