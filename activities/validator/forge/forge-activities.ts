import { createWriteStream, createReadStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createHash } from 'node:crypto';
import { activityInfo, cancellationSignal, heartbeat } from '@temporalio/activity';
import type { BuildOrder, BuildResult } from '../../../workflows/domain/images/build-result.ts';
import type { ImageArtifact } from '../../../workflows/domain/protocol/image-artifact.ts';
import type { Logger } from '../../clients/log.ts';
import type { BlobStore } from '../../clients/s3.ts';
import type { BuildLogStore } from '../images/build-log-store.ts';
import type { ImageStore } from '../images/image-store.ts';
import { BuildFailure } from './build-failure.ts';
import type { BuildLimits, BuildOutput, ImageBuilder } from './builder.ts';
import { extractContext, MAX_CONTEXT_ENTRIES } from './context.ts';
import { watchDisk } from './disk-watch.ts';
import { BuildLogWriter } from './log-writer.ts';
import type { Workspace } from './workspace.ts';

export interface ForgeDeps {
  builder: ImageBuilder;
  workspace: Workspace;
  images: Pick<ImageStore, 'markBuilding'>;
  logs: Pick<BuildLogStore, 'append'>;
  blobs: BlobStore;
  limits: BuildLimits;
  log: Logger;
}

const HEARTBEAT_MS = 1_000;
/** A Dockerfile is text; what is larger is not one. */
const MAX_DOCKERFILE_BYTES = 1024 ** 2;

export const archiveKey = (userId: string, imageId: string): string => `forge/${userId}/${imageId}.tar.gz`;

/** Activities on queue `forge`: one build at a time a slot, each in a folder of its own that is gone afterwards. */
export function createForgeActivities({ builder, workspace, images, logs, blobs, limits, log }: ForgeDeps) {
  return {
    /**
     * Builds and pushes one image. What the user can mend comes back as `failed`; what this host did wrong is thrown and
     * tried again, maybe elsewhere. Nothing of the build is left running or on disk, however it ends.
     */
    async buildImage(order: BuildOrder): Promise<BuildResult> {
      const { imageId } = order;
      const { attempt } = activityInfo();
      const swept = await workspace.sweepDead();
      if (swept.length > 0) log.warn({ event: 'forge.swept', owners: swept }, 'forge.swept');
      if (!(await images.markBuilding(imageId))) return { kind: 'failed', reason: 'the image is gone' };
      const { buildId, dir } = await workspace.attempt(imageId);
      const writer = new BuildLogWriter(logs, imageId, attempt);
      const limit = new AbortController();
      const stopped = AbortSignal.any([cancellationSignal(), limit.signal]);
      const beat = setInterval(() => heartbeat(), HEARTBEAT_MS);
      const late = setTimeout(
        () => limit.abort(new BuildFailure(`build ran longer than ${Math.round(order.deadlineMs / 1000)} s`)),
        order.deadlineMs,
      );
      const disk = watchDisk({
        dirs: [dir, ...builder.storageDirs],
        maxBytes: limits.maxBytes,
        onExceeded: () => limit.abort(new BuildFailure(`build wrote more than ${limits.maxBytes} bytes`)),
      });
      const startedAt = performance.now();
      log.info({ event: 'build.started', imageId, buildId, attempt, form: builder.form }, 'build.started');
      try {
        writer.note(
          `building ${order.username}/${order.name}:${order.tag}, attempt ${attempt}, by ${builder.form} (${builder.containment})`,
        );
        const artifact = await build(order, buildId, dir, writer, stopped);
        await writer.close();
        log.info(
          { event: 'build.succeeded', imageId, buildId, durationMs: Math.round(performance.now() - startedAt) },
          'build.succeeded',
        );
        return { kind: 'built', artifact };
      } catch (err) {
        const cause = limit.signal.aborted && !cancellationSignal().aborted ? (limit.signal.reason as unknown) : err;
        const durationMs = Math.round(performance.now() - startedAt);
        if (cause instanceof BuildFailure) {
          writer.line('stderr', cause.message);
          await writer.close();
          log.info({ event: 'build.failed', imageId, buildId, durationMs, reason: cause.message }, 'build.failed');
          return { kind: 'failed', reason: cause.message };
        }
        writer.note(
          cancellationSignal().aborted ? 'build was stopped' : 'this build host failed; the build will be tried again',
        );
        await writer.close().catch(() => {});
        log.warn({ event: 'build.aborted', imageId, buildId, durationMs, err: cause }, 'build.aborted');
        throw cause;
      } finally {
        clearTimeout(late);
        disk.stop();
        await builder.clean({ buildId });
        await rm(dir, { recursive: true, force: true, maxRetries: 5 });
        clearInterval(beat); // last: a slow clean-up must not look like a lost host
      }
    },
  };

  async function build(
    order: BuildOrder,
    buildId: string,
    dir: string,
    writer: BuildLogWriter,
    signal: AbortSignal,
  ): Promise<ImageArtifact> {
    const { imageId, username, name, tag } = order;
    const contextDir = join(dir, 'context');
    await mkdir(contextDir);
    const dockerfile = await writer.stage('fetch and unpack the build context', async () => {
      const zip = join(dir, 'context.zip');
      await fetchObject(order.contextKey, order.contextSha256, zip);
      const { entries, bytes } = await extractContext(zip, contextDir, {
        maxEntries: MAX_CONTEXT_ENTRIES,
        maxBytes: limits.maxBytes,
      });
      await rm(zip);
      writer.note(`build context: ${entries} entries, ${bytes} bytes`);
      const text = await blobs.get(order.dockerfileKey);
      if (!text) throw new Error(`object ${order.dockerfileKey} is missing`);
      if (text.length > MAX_DOCKERFILE_BYTES) throw new BuildFailure('Dockerfile is too large');
      return text.toString('utf8');
    });
    const output = await builder.build({
      buildId,
      imageId,
      username,
      name,
      tag,
      contextDir,
      dir,
      dockerfile,
      log: writer,
      signal,
    });
    signal.throwIfAborted();
    return output.kind === 'oci'
      ? output.artifact
      : writer.stage('store the archive', () => storeArchive(order, output));
  }

  async function fetchObject(key: string, sha256: string, file: string): Promise<void> {
    const stream = await blobs.stream(key);
    if (!stream) throw new Error(`object ${key} is missing`);
    const hash = createHash('sha256');
    await pipeline(
      stream,
      async function* (chunks: AsyncIterable<Buffer>) {
        for await (const chunk of chunks) {
          hash.update(chunk);
          yield chunk;
        }
      },
      createWriteStream(file, { mode: 0o600 }),
    );
    if (hash.digest('hex') !== sha256) throw new Error(`object ${key} is not what was uploaded`);
  }

  async function storeArchive(
    order: BuildOrder,
    output: Extract<BuildOutput, { kind: 'archive' }>,
  ): Promise<ImageArtifact> {
    const key = archiveKey(order.userId, order.imageId);
    await blobs.putStream(key, createReadStream(output.file), output.sizeBytes, 'application/gzip');
    const { sha256, sizeBytes, command, workingDir, env } = output;
    return { kind: 'archive', key, sha256, sizeBytes, command, workingDir, env };
  }
}
export type ForgeActivities = ReturnType<typeof createForgeActivities>;
