import type { BuildResult } from '../../../workflows/domain/images/build-result.ts';
import { CLOSING_SEQ } from '../../../workflows/domain/images/build-log.ts';
import type { DeleteImage, SubmitImage } from '../../../workflows/validator/images/messages.ts';
import type { BlobStore } from '../../clients/s3.ts';
import type { ImageRegistry } from '../../clients/image-registry.ts';
import type { BuildLogStore } from './build-log-store.ts';
import type { ImageStore } from './image-store.ts';

export interface ImageActivityDeps {
  images: ImageStore;
  logs: BuildLogStore;
  blobs: BlobStore;
  registry: ImageRegistry | null;
}

export const buildLogKey = (userId: string, imageId: string): string => `forge/${userId}/${imageId}.log`;

/** Activities of `image/<image_id>` on queue `validator`: rows, events, stored objects. */
export function createImageActivities({ images, logs, blobs, registry }: ImageActivityDeps) {
  return {
    recordImage: (image: SubmitImage): Promise<void> => images.insert(image),

    /** Closes the log, stores it whole, sets the final status. Readers see every line before they see the end. */
    async finishBuild({ imageId, result }: { imageId: string; result: BuildResult }): Promise<void> {
      const row = await images.byId(imageId);
      if (!row) return;
      const log = result.kind === 'built' ? 'build succeeded' : `build failed: ${result.reason}`;
      await logs.append(imageId, [
        { seq: CLOSING_SEQ, atMs: Date.now(), logType: result.kind === 'built' ? 'stdout' : 'stderr', log },
      ]);
      const key = buildLogKey(row.user_id, imageId);
      await blobs.put(key, await logs.text(imageId), 'text/plain; charset=utf-8');
      await images.finish(imageId, result, key);
      await logs.prune();
    },

    checkDeletable: (request: DeleteImage & { imageId: string }): Promise<void> => images.checkDeletable(request),

    /** The row goes first: what an interruption leaves in S3 or the registry, nobody can reach. */
    async forgetImage(request: DeleteImage & { imageId: string }): Promise<{ deleted: boolean }> {
      const row = await images.delete(request);
      if (!row) return { deleted: true };
      if (row.artifact?.kind === 'archive') await blobs.delete(row.artifact.key);
      if (row.artifact?.kind === 'oci') await registry?.deleteManifest(row.artifact.reference, row.artifact.digest);
      if (row.log_key) await blobs.delete(row.log_key);
      for (const key of [row.context_key, row.dockerfile_key]) await blobs.delete(key);
      return { deleted: true };
    },
  };
}
export type ImageActivities = ReturnType<typeof createImageActivities>;
