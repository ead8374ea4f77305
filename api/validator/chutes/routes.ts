import { Router, type Request, type Response } from 'express';
import { z } from 'zod';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { isUuid } from '../../../workflows/domain/ids.ts';
import { deleteChute, setTargetCount } from '../../../workflows/validator/chutes/messages.ts';
import { describeRoute } from '../../http/openapi.ts';
import { jsonBodyOf, rawBody } from '../../http/raw-body.ts';
import { parse } from '../../http/validate.ts';
import { callerOf, optionalCallerOf } from '../auth/auth.ts';
import type { ValidatorDeps } from '../deps.ts';
import { findChute, listChutes, type ChuteRow } from './chute-queries.ts';
import { deployFromArgs, startChute } from './deploy-chute.ts';
import { renderChute, renderPage } from './render-chute.ts';
import { createUtilization, readGpuCountHistory, readRollingUpdates } from './utilization.ts';
import { answerWarmup } from './warmup.ts';
import { chuteArgs, deployQuery, listQuery, shareArgs, targetCountArgs, updateArgs, warmupQuery } from './wire.ts';

const BODY_LIMIT_BYTES = 4 * 1024 * 1024;

/** Chutes of users (spec/validator-api.md §2.4). `POST /chutes/{chute}/{cord path}` is the gateway's and is not answered here. */
export function chuteRoutes(deps: ValidatorDeps): Router {
  const { db, temporal, auth } = deps;
  const body = rawBody({ limitBytes: BODY_LIMIT_BYTES });
  const owner = auth.user({ purpose: 'chutes' });
  const anyone = auth.user({ purpose: 'chutes', optional: true });
  const utilization = createUtilization(db);
  const router = Router();

  router.post('/chutes/', body, auth.user(), async (req, res) => {
    const { accept_fee } = parse(deployQuery, req.query, 'query');
    const args = parse(chuteArgs, jsonBodyOf(res));
    const chuteId = await deployFromArgs(deps, callerOf(res), args, accept_fee);
    res.json(renderChute(await visibleChute(chuteId, res)));
  });
  router.get('/chutes/', anyone, async (req, res) => {
    const query = parse(listQuery, req.query, 'query');
    const { total, rows } = await listChutes(db, query, optionalCallerOf(res)?.userId ?? null);
    res.json(renderPage(rows, { total, page: query.page, limit: query.limit }, query.include_schemas));
  });

  router.post('/chutes/share', body, auth.user(), async (_req, res) => {
    const { chuteId, userId } = await sharing(res);
    await db('chute_shares')
      .insert({ chute_id: chuteId, user_id: userId })
      .onConflict(['chute_id', 'user_id'])
      .ignore();
    res.json({ status: 'shared' });
  });
  router.post('/chutes/unshare', body, auth.user(), async (_req, res) => {
    const { chuteId, userId } = await sharing(res);
    await db('chute_shares').where({ chute_id: chuteId, user_id: userId }).delete();
    res.json({ status: 'unshared' });
  });

  router.get('/chutes/utilization', async (_req, res) => void res.json(await utilization()));
  router.get('/chutes/rolling_updates', async (_req, res) => void res.json(await readRollingUpdates(db)));
  router.get('/chutes/gpu_count_history', async (_req, res) => void res.json(await readGpuCountHistory(db)));
  router.get('/chutes/code/*path', anyone, async (req, res) => {
    const chute = await visibleChute(pathOf(req), res);
    res.type('text/plain').send(chute.code);
  });
  router.get('/chutes/warmup/*path', anyone, async (req, res) => {
    const { quick } = parse(warmupQuery, req.query, 'query');
    await answerWarmup(deps, await visibleChute(pathOf(req), res), res, quick);
  });

  router.get(
    '/chutes/*path',
    anyone,
    async (req, res) => void res.json(renderChute(await visibleChute(pathOf(req), res))),
  );
  router.put('/chutes/:chute/target_count', body, auth.user(), async (req, res) => {
    const { target_count: targetCount } = parse(targetCountArgs, jsonBodyOf(res));
    const chute = await ownChute(String(req.params.chute), res);
    if (chute.max_instances !== null && targetCount > chute.max_instances) {
      throw new Refusal(
        'request.invalid',
        `this chute may have at most ${chute.max_instances} instances (max_instances)`,
      );
    }
    await temporal.workflow.executeUpdateWithStart(setTargetCount, {
      startWorkflowOperation: startChute(chute.chute_id),
      args: [{ targetCount }],
    });
    res.json({ chute_id: chute.chute_id, target_count: targetCount });
  });
  router.put('/chutes/*path', body, auth.user(), async (req, res) => {
    const args = parse(updateArgs, jsonBodyOf(res));
    const chute = await ownChute(pathOf(req), res);
    const scaling = ['max_instances', 'scaling_threshold', 'shutdown_after_seconds'];
    const changes = Object.fromEntries(
      Object.entries(args).filter(
        ([name, value]) =>
          value !== null && value !== undefined && value !== '' && !(chute.public && scaling.includes(name)),
      ),
    );
    if (Object.keys(changes).length > 0)
      await db('chutes')
        .where({ chute_id: chute.chute_id })
        .update({ ...changes, updated_at: db.fn.now() });
    res.json(renderChute(await visibleChute(chute.chute_id, res)));
  });
  router.delete('/chutes/*path', owner, async (req, res) => {
    const chute = await ownChute(pathOf(req), res);
    await temporal.workflow.executeUpdateWithStart(deleteChute, {
      startWorkflowOperation: startChute(chute.chute_id),
      args: [],
    });
    res.json({ chute_id: chute.chute_id, deleted: true });
  });

  async function visibleChute(idOrName: string, res: Response): Promise<ChuteRow> {
    const chute = await findChute(db, idOrName, optionalCallerOf(res)?.userId ?? null);
    if (!chute) throw new Refusal('resource.not_found', 'Chute not found, or does not belong to you');
    return chute;
  }
  /** Others' chutes are not there for who wants to change them. */
  async function ownChute(idOrName: string, res: Response): Promise<ChuteRow> {
    const chute = await visibleChute(idOrName, res);
    if (chute.user_id !== callerOf(res).userId)
      throw new Refusal('resource.not_found', 'Chute not found, or does not belong to you');
    return chute;
  }
  async function sharing(res: Response): Promise<{ chuteId: string; userId: string }> {
    const args = parse(shareArgs, jsonBodyOf(res));
    const chute = await ownChute(args.chute_id_or_name, res);
    if (chute.public) throw new Refusal('request.invalid', 'A public chute need not be shared.');
    const user: { user_id: string } | undefined = await db('users')
      .where(
        isUuid(args.user_id_or_name)
          ? { user_id: args.user_id_or_name }
          : db.raw('lower(username) = lower(?)', [args.user_id_or_name]),
      )
      .first('user_id');
    if (!user) throw new Refusal('resource.not_found', 'User not found');
    if (user.user_id === callerOf(res).userId)
      throw new Refusal('request.invalid', 'You cannot share a chute with yourself.');
    return { chuteId: chute.chute_id, userId: user.user_id };
  }
  return router;
}

/** What the wildcard caught: names may contain slashes. */
function pathOf(req: Request): string {
  const path: unknown = req.params.path;
  return Array.isArray(path) ? path.join('/') : String(path);
}

const chute = z.looseObject({
  chute_id: z.string(),
  name: z.string(),
  slug: z.string(),
  version: z.string(),
  public: z.boolean(),
  hot: z.boolean(),
});
const status = z.object({ status: z.string() });
describeRoute({
  method: 'post',
  path: '/chutes/',
  summary: 'Deploy a chute',
  auth: 'user',
  query: deployQuery,
  body: chuteArgs,
  response: chute,
});
describeRoute({
  method: 'get',
  path: '/chutes/',
  summary: 'List chutes',
  auth: 'user?',
  purpose: 'chutes',
  query: listQuery,
  response: z.looseObject({
    total: z.number().int(),
    page: z.number().int(),
    limit: z.number().int(),
    items: z.array(chute),
  }),
});
describeRoute({
  method: 'get',
  path: '/chutes/*chute',
  summary: 'One chute, by id or [user/]name',
  auth: 'user?',
  purpose: 'chutes',
  response: chute,
});
describeRoute({
  method: 'put',
  path: '/chutes/*chute',
  summary: 'Change what a chute says of itself',
  auth: 'user',
  body: updateArgs,
  response: chute,
});
describeRoute({
  method: 'delete',
  path: '/chutes/*chute',
  summary: 'Delete a chute',
  auth: 'user',
  purpose: 'chutes',
  response: z.object({ chute_id: z.string(), deleted: z.boolean() }),
});
describeRoute({
  method: 'put',
  path: '/chutes/:chute/target_count',
  summary: 'How many instances a chute wants',
  auth: 'user',
  body: targetCountArgs,
  response: z.object({ chute_id: z.string(), target_count: z.number().int() }),
});
describeRoute({
  method: 'post',
  path: '/chutes/share',
  summary: 'Share a private chute with a user',
  auth: 'user',
  body: shareArgs,
  response: status,
});
describeRoute({
  method: 'post',
  path: '/chutes/unshare',
  summary: 'Take a share back',
  auth: 'user',
  body: shareArgs,
  response: status,
});
describeRoute({
  method: 'get',
  path: '/chutes/code/*chute',
  summary: 'Source of a chute',
  auth: 'user?',
  purpose: 'chutes',
  response: { contentType: 'text/plain' },
});
describeRoute({
  method: 'get',
  path: '/chutes/warmup/*chute',
  summary: 'Wait until a chute is hot',
  auth: 'user?',
  purpose: 'chutes',
  query: warmupQuery,
  response: { contentType: 'text/event-stream' },
});
for (const [name, summary] of [
  ['utilization', 'How busy chutes are'],
  ['rolling_updates', 'Updates under way'],
  ['gpu_count_history', 'GPUs per chute, lately'],
] as const)
  describeRoute({ method: 'get', path: `/chutes/${name}`, summary, auth: 'none', response: z.unknown() });
