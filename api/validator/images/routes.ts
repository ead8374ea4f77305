import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { WithStartWorkflowOperation } from '@temporalio/client';
import { Router, type RequestHandler } from 'express';
import { BuildFailure } from '../../../activities/validator/forge/build-failure.ts';
import { inspectContext, MAX_CONTEXT_ENTRIES } from '../../../activities/validator/forge/context.ts';
import { createBuildLogStore } from '../../../activities/validator/images/build-log-store.ts';
import {
  createImageStore,
  MINIMUM_BALANCE_MICRO_USD,
  type OwnedImageRow,
} from '../../../activities/validator/images/image-store.ts';
import { hasRole } from '../../../workflows/domain/auth/users.ts';
import { parseOffset } from '../../../workflows/domain/images/build-log.ts';
import { parseImageReference } from '../../../workflows/domain/images/image-reference.ts';
import { isFinished } from '../../../workflows/domain/images/image-status.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { imageIdOf } from '../../../workflows/domain/ids.ts';
import { imageWorkflowId } from '../../../workflows/ids.ts';
import { SEARCH_ATTRIBUTES } from '../../../workflows/search-attributes.ts';
import { TASK_QUEUES } from '../../../workflows/task-queues.ts';
import { deleteImage, submitImage, type SubmitImage } from '../../../workflows/validator/images/messages.ts';
import type { imageBuild } from '../../../workflows/validator/images/image-build.ts';
import { ValidationError } from '../../http/errors.ts';
import { describeRoute } from '../../http/openapi.ts';
import { offsetOf, pageOf, renderPage } from '../../http/pagination.ts';
import { rawBody, rawBodyOf } from '../../http/raw-body.ts';
import { parse } from '../../http/validate.ts';
import { callerOf, optionalCallerOf, type Caller } from '../auth/auth.ts';
import type { ValidatorDeps } from '../deps.ts';
import { streamBuildLog } from './log-stream.ts';
import { parseForm, type Form } from './multipart.ts';
import { deletedResponse, imageForm, imageResponse, imageRow, listQuery, renderImage, renderRow } from './wire.ts';

const isUnlimited = (caller: Caller): boolean => hasRole(caller.permissionsBitmask, 'unlimited_dev');
/** Room for the form around the build context, the pickle nobody reads included. */
const FORM_OVERHEAD_BYTES = 16 * 1024 ** 2;
const UPLOAD_WITHIN_MS = 900_000;
const FIELD_LIMITS = {
  wait: 16,
  username: 64,
  name: 128,
  tag: 128,
  readme: 256 * 1024,
  logo_id: 64,
  dockerfile: 1024 ** 2,
  public: 16,
};

const purpose = 'images';
describeRoute({
  method: 'post',
  path: '/images/',
  summary: 'Build an image',
  auth: 'user',
  body: { contentType: 'multipart/form-data', schema: imageForm },
  response: imageRow,
  status: 202,
});
describeRoute({
  method: 'get',
  path: '/images/',
  summary: 'List images',
  auth: 'user',
  purpose,
  query: listQuery,
  response: pageOf(imageResponse),
});
describeRoute({
  method: 'get',
  path: '/images/:imageId/logs',
  summary: 'Build log: a stream while it builds, text afterwards',
  auth: 'user?',
  purpose,
  response: { contentType: 'text/event-stream' },
});
describeRoute({
  method: 'get',
  path: '/images/:imageId/archive',
  summary: 'The image as an archive, for its owner and for miners',
  auth: 'user',
  purpose,
  response: { contentType: 'application/gzip' },
});
describeRoute({
  method: 'get',
  path: '/images/*path',
  summary: 'One image, by id or [user/]name:tag',
  auth: 'user',
  purpose,
  response: imageResponse,
});
describeRoute({
  method: 'delete',
  path: '/images/*path',
  summary: 'Delete an image; stops its build',
  auth: 'user',
  purpose,
  response: deletedResponse,
});

/** `/images` (spec/validator-api.md §2.3). */
export function imageRoutes({ config, db, temporal, blobs, auth }: ValidatorDeps): Router {
  const images = createImageStore(db);
  const logs = createBuildLogStore(db);
  const spoolDir = config.CANOPY_SPOOL_DIR ?? join(config.CANOPY_WORK_DIR, 'uploads');
  const contextLimits = { maxEntries: MAX_CONTEXT_ENTRIES, maxBytes: config.CANOPY_BUILD_MAX_BYTES };
  const publicUrl = config.CANOPY_PUBLIC_URL;
  const reader = auth.user({ purpose: 'images' });

  /** Updates `image/<id>`, starting it when it is not running. */
  const start = (imageId: string) =>
    new WithStartWorkflowOperation<typeof imageBuild>('imageBuild', {
      workflowId: imageWorkflowId(imageId),
      taskQueue: TASK_QUEUES.validator,
      workflowIdConflictPolicy: 'USE_EXISTING',
      args: [{ imageId, deadlineMs: config.CANOPY_BUILD_DEADLINE_MS }],
      typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.image, value: imageId }],
    });

  async function find(text: string, caller: Caller | null): Promise<OwnedImageRow> {
    const reference = parseImageReference(text);
    const row = reference && (await images.find(reference, caller));
    if (!row) throw new Refusal('resource.not_found', 'image not found, or not yours to see');
    return row;
  }

  const router = Router();

  router.post(
    '/images/',
    auth.preflight(),
    rawBody({
      limitBytes: config.CANOPY_CONTEXT_MAX_BYTES + FORM_OVERHEAD_BYTES,
      withinMs: UPLOAD_WITHIN_MS,
      spoolDir,
    }),
    auth.user(),
    async (req, res) => {
      const caller = callerOf(res);
      const { file } = rawBodyOf(res);
      if (!file) throw new Error('the upload was not spooled');
      const form = await parseForm({
        contentType: req.headers['content-type'],
        bodyFile: file,
        dir: spoolDir,
        fields: FIELD_LIMITS,
        files: ['build_context'],
      });
      try {
        const image = await accept(form, caller);
        res.status(202).json(renderRow(image));
      } finally {
        await form.remove();
      }
    },
  );

  async function accept(form: Form, caller: Caller): Promise<OwnedImageRow> {
    const fields = parse(imageForm, form.fields);
    if (fields.username !== caller.username)
      throw new Refusal('auth.unauthorized', 'username is not that of the caller');
    const context = form.files.build_context;
    if (!context) throw new Error('a parsed form has its files');
    if (context.sizeBytes > config.CANOPY_CONTEXT_MAX_BYTES)
      throw new Refusal('request.too_large', `build_context is larger than ${config.CANOPY_CONTEXT_MAX_BYTES} bytes`);
    const unlimited = isUnlimited(caller);
    if (
      config.CANOPY_MODE === 'production' &&
      !unlimited &&
      (await images.balanceMicroUsd(caller.userId)) < MINIMUM_BALANCE_MICRO_USD
    ) {
      throw new Refusal(
        'balance.insufficient',
        `building images needs a balance of ${MINIMUM_BALANCE_MICRO_USD / 1e6} USD`,
      );
    }
    const imageId = imageIdOf(caller.username, fields.name, fields.tag);
    await images.checkCreatable({ imageId, userId: caller.userId, name: fields.name, tag: fields.tag, unlimited });
    await inspectContext(context.path, contextLimits).catch((err: unknown) => {
      throw err instanceof BuildFailure ? new Refusal('request.invalid', err.message) : err;
    });
    const stored = await store(imageId, caller.userId, context, dockerfileOf(fields.dockerfile));
    const order: SubmitImage = {
      imageId,
      userId: caller.userId,
      username: caller.username,
      name: fields.name,
      tag: fields.tag,
      readme: fields.readme,
      logoId: fields.logo_id,
      public: fields.public,
      chutesVersion: config.CANOPY_SDK_VERSION,
      unlimited,
      ...stored,
    };
    try {
      await temporal.workflow.executeUpdateWithStart(submitImage, {
        args: [order],
        startWorkflowOperation: start(imageId),
        updateId: `submit-${order.submittedAtMs}-${order.contextSha256.slice(0, 16)}`,
      });
    } catch (err) {
      if ((await images.byId(imageId))?.context_key !== order.contextKey)
        await Promise.all([blobs.delete(order.contextKey), blobs.delete(order.dockerfileKey)]);
      throw err;
    }
    const row = await images.byId(imageId);
    if (!row) throw new Refusal('resource.gone', 'image was deleted meanwhile');
    return row;
  }

  /** The reference installs its SDK in every image; ours is injected at run time, so it is a setting. */
  const dockerfileOf = (text: string): string =>
    config.CANOPY_FORGE_INSTALL_SDK ? `${text}\n\nRUN pip install chutes==${config.CANOPY_SDK_VERSION}\n` : text;

  /** Named by content below the submission, so deleting one image can never take another's bytes. */
  async function store(
    imageId: string,
    userId: string,
    context: { path: string; sizeBytes: number; sha256: string },
    dockerfile: string,
  ) {
    const submittedAtMs = Date.now();
    const prefix = `forge/${userId}/${imageId}/${submittedAtMs}`;
    const contextKey = `${prefix}/${context.sha256}.zip`;
    await blobs.putStream(contextKey, createReadStream(context.path), context.sizeBytes, 'application/zip');
    const stored = await blobs.putByContent(`${prefix}/Dockerfile`, dockerfile, 'text/plain; charset=utf-8');
    return {
      submittedAtMs,
      contextKey,
      contextSha256: context.sha256,
      dockerfileKey: stored.key,
      dockerfileSha256: stored.sha256,
    };
  }

  router.get('/images/', reader, async (req, res) => {
    const query = parse(listQuery, req.query, 'query');
    const { total, rows } = await images.list({
      userId: callerOf(res).userId,
      includePublic: query.include_public,
      name: query.name,
      tag: query.tag,
      offset: offsetOf(query),
      limit: query.limit,
    });
    res.json(
      renderPage(
        query,
        total,
        rows.map((row) => renderImage(row, publicUrl)),
      ),
    );
  });

  router.get('/images/:imageId/logs', auth.user({ purpose: 'images', optional: true }), async (req, res) => {
    const image = await find(String(req.params.imageId), optionalCallerOf(res));
    const offset = typeof req.query.offset === 'string' ? parseOffset(req.query.offset) : 0;
    if (offset === null)
      throw new ValidationError([{ type: 'invalid_format', loc: ['query', 'offset'], msg: 'must be <ms>-<seq>' }]);
    if (!isFinished(image.status))
      return streamBuildLog({ res, imageId: image.image_id, fromSeq: offset, images, logs });
    const log = image.log_key ? await blobs.stream(image.log_key) : null;
    res.setHeader('content-type', 'text/plain; charset=utf-8');
    if (!log) return void res.end(image.status);
    await pipeline(log, res);
  });

  router.get(
    '/images/:imageId/archive',
    eitherOf(reader, auth.registered({ purpose: 'registry' })),
    async (req, res) => {
      const caller = optionalCallerOf(res);
      const reference = parseImageReference(String(req.params.imageId));
      // A registered miner may pull every image, private ones too, as from the registry (§2.13).
      const image = caller
        ? await find(String(req.params.imageId), caller)
        : reference?.kind === 'id'
          ? await images.byId(reference.imageId)
          : null;
      if (image?.artifact?.kind !== 'archive')
        throw new Refusal('resource.not_found', 'there is no archive of this image');
      const archive = await blobs.stream(image.artifact.key);
      if (!archive) throw new Refusal('resource.not_found', 'there is no archive of this image');
      res.writeHead(200, {
        'content-type': 'application/gzip',
        'content-length': image.artifact.sizeBytes,
        'x-content-sha256': image.artifact.sha256,
      });
      await pipeline(archive, res);
    },
  );

  router.get('/images/*path', reader, async (req, res) => {
    res.json(renderImage(await find(pathOf(req.params.path), callerOf(res)), publicUrl));
  });

  router.delete('/images/*path', reader, async (req, res) => {
    const caller = callerOf(res);
    const image = await find(pathOf(req.params.path), caller);
    if (image.user_id !== caller.userId) throw new Refusal('resource.not_found', 'image not found, or not yours');
    await temporal.workflow.executeUpdateWithStart(deleteImage, {
      args: [{ userId: caller.userId, unlimited: isUnlimited(caller), requestedAtMs: Date.now() }],
      startWorkflowOperation: start(image.image_id),
    });
    res.json({ image_id: image.image_id, deleted: true });
  });

  return router;
}

const pathOf = (path: unknown): string => (Array.isArray(path) ? path.join('/') : String(path));

/** The first that lets the request in; what the second says when neither does. */
const eitherOf =
  (first: RequestHandler, second: RequestHandler): RequestHandler =>
  async (req, res, next) => {
    let refused = false;
    let passed = false;
    try {
      await first(req, res, (err?: unknown) => {
        if (err) refused = true;
        else passed = true;
      });
    } catch {
      refused = true;
    }
    if (passed) return next();
    if (refused) await second(req, res, next);
  };
