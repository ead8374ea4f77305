import { createHmac } from 'node:crypto';
import { Router, type RequestHandler, type Response } from 'express';
import { readGrant } from '../../../activities/validator/instances/launch-store.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { countRivals } from '../../../activities/validator/chutes/count-rivals.ts';
import { requestLaunch } from '../../../workflows/validator/chutes/messages.ts';
import {
  activateInstance,
  claimInstance,
  instanceStatus,
  submitCommit,
  submitProof,
  submitWalk,
} from '../../../workflows/validator/instances/messages.ts';
import { describeRoute } from '../../http/openapi.ts';
import { jsonBodyOf, rawBody } from '../../http/raw-body.ts';
import { parse } from '../../http/validate.ts';
import { launchOf, minerOf } from '../auth/auth.ts';
import { mintLaunchToken } from '../auth/launch-token.ts';
import { startChute } from '../chutes/deploy-chute.ts';
import type { ValidatorDeps } from '../deps.ts';
import { instanceOfLaunch, launchNow, LAUNCH_PATH as base, orEnded } from './launch-handle.ts';
import { openingsRoutes, storedOpenings } from './openings-routes.ts';
import { renderClaim, renderVerified } from './render-launch.ts';
import { claimBody, claimOf, commitBody, launchQuery, proofBody, walkBody } from './wire.ts';

/**
 * Reads a body and stamps when its last byte was here, never when its head came: whoever sends the head at once and the body
 * later would have worked for free. Queues behind this moment are not the prover's time.
 */
function received(limits: { limitBytes: number; withinMs: number }): RequestHandler {
  const read = rawBody(limits);
  return (req, res, next) =>
    void read(req, res, (err?: unknown) => {
      res.locals.arrivedAtMs = Date.now();
      next(err);
    });
}
const arrivedAtMs = (res: Response): number => res.locals.arrivedAtMs as number;
/** A claim carries the chute's code. */
const claimReceived = received({ limitBytes: 16 * 1024 ** 2, withinMs: 120_000 });
/** Hashes of a few GPUs: 3 kB. The reference's proof, which is not looked at, may be longer. */
const stepReceived = received({ limitBytes: 64 * 1024, withinMs: 15_000 });
const proofReceived = received({ limitBytes: 1024 ** 2, withinMs: 15_000 });

/** The launch conversation, spec/validator-api.md §2.6.1–2.6.4 and workflows/domain/protocol/launch.ts. */
export function launchRoutes(deps: ValidatorDeps): Router {
  const { auth, config, db, temporal } = deps;
  const instanceNow = async (res: Response) => instanceOfLaunch(temporal, await launchNow(db, res));

  const router = Router();
  router.get(base, auth.registered({ purpose: 'launch' }), async (req, res) => {
    const requestedAtMs = Date.now();
    const { chute_id: chuteId, job_id: jobId } = parse(launchQuery, req.query, 'query');
    const { hotkey, coldkey, uid, blacklistReason } = minerOf(res);
    if (blacklistReason !== null) throw new Refusal('auth.forbidden', `hotkey is blacklisted: ${blacklistReason}`);
    if (!(await db('chutes').where({ chute_id: chuteId }).first('chute_id')))
      throw new Refusal('resource.not_found', 'Chute not found');
    if (jobId !== undefined) throw new Refusal('resource.not_found', 'jobs are not offered');
    const rivals = await countRivals(db, { chuteId, hotkey, netuid: config.CANOPY_NETUID });
    const request = { minerHotkey: hotkey, minerColdkey: coldkey, minerUid: uid, requestedAtMs, rivals };
    const { configId } = await temporal.workflow.executeUpdateWithStart(requestLaunch, {
      startWorkflowOperation: startChute(chuteId),
      args: [request],
    });
    const grant = await readGrant(db, configId);
    if (!grant) throw new Refusal('resource.not_found', 'Chute not found');
    const token = await mintLaunchToken(config, {
      sub: configId,
      iat: Math.floor(grant.issuedAt.getTime() / 1000),
      env_key: grant.envKey,
      chute_id: chuteId,
      egress: grant.allowsEgress,
      lock_modules: false,
      env_type: 'graval',
    });
    deps.log.info({ event: 'launch.permitted', configId, chuteId, hotkey }, 'launch.permitted');
    res.json({ token, config_id: configId });
  });

  // Derived, not stored: the same 32 hex characters for the life of the config (§7.2 step 1).
  router.get(`${base}/:configId/nonce`, auth.launchToken, (_req, res) => {
    const nonce = createHmac('sha256', config.CANOPY_LAUNCH_KEY.reveal())
      .update(`nonce:${launchOf(res).configId}`)
      .digest('hex');
    res.type('text/plain').send(nonce.slice(0, 32));
  });

  router.post([`${base}/:configId`, `${base}/:configId/graval`], auth.launchToken, claimReceived, async (_req, res) => {
    const claim = claimOf(parse(claimBody, jsonBodyOf(res)), arrivedAtMs(res));
    const instance = await instanceNow(res);
    const { session } = await orEnded(
      instance.executeUpdate(claimInstance, { args: [claim] }),
      'auth.unauthorized',
      'launch token was already used',
    );
    res.json(renderClaim(await launchNow(db, res), session, claim.gpus));
  });

  router.post(`${base}/:configId/povw/commit`, auth.launchToken, stepReceived, async (_req, res) => {
    const { roots } = parse(commitBody, jsonBodyOf(res));
    const instance = await instanceNow(res);
    res.json(
      await orEnded(instance.executeUpdate(submitCommit, { args: [{ roots, receivedAtMs: arrivedAtMs(res) }] })),
    );
  });

  router.post(`${base}/:configId/povw/walk`, auth.launchToken, stepReceived, async (_req, res) => {
    const { walks } = parse(walkBody, jsonBodyOf(res));
    const instance = await instanceNow(res);
    res.json(await orEnded(instance.executeUpdate(submitWalk, { args: [{ walks, receivedAtMs: arrivedAtMs(res) }] })));
  });

  router.use(openingsRoutes(deps));
  router.put([`${base}/:configId`, `${base}/:configId/graval`], auth.launchToken, proofReceived, async (_req, res) => {
    const { canopy } = parse(proofBody, jsonBodyOf(res));
    const launch = await launchNow(db, res);
    if (launch.failed_at) throw new Refusal('proof.refused', 'launch has failed');
    const instance = instanceOfLaunch(temporal, launch);
    const openings = await storedOpenings(
      deps,
      launch.config_id,
      await orEnded(instance.query(instanceStatus)),
      canopy,
    );
    const { verifiedAt } = await orEnded(
      instance.executeUpdate(submitProof, { args: [{ openings, receivedAtMs: arrivedAtMs(res) }] }),
    );
    const { session } = await instance.query(instanceStatus);
    if (!session) throw new Error(`verified instance ${launch.instance_id} has no proof session`);
    res.json(await renderVerified(deps, launch, session, verifiedAt));
  });

  router.get(`${base}/:configId/activate`, auth.launchToken, async (_req, res) => {
    await orEnded((await instanceNow(res)).executeUpdate(activateInstance, { args: [] }));
    res.json({ ok: true });
  });
  return router;
}

describeRoute({
  method: 'get',
  path: base,
  summary: 'Permission to launch an instance: a launch token',
  auth: 'registered',
  purpose: 'launch',
  query: launchQuery,
});
for (const suffix of ['', '/graval']) {
  describeRoute({
    method: 'post',
    path: `${base}/:configId${suffix}`,
    summary: 'Claim: the instance with its GPUs; starts the proof',
    auth: 'launch',
    body: claimBody,
  });
  describeRoute({
    method: 'put',
    path: `${base}/:configId${suffix}`,
    summary: 'The proof is whole: openings by their hashes; the answer carries code and session secret',
    auth: 'launch',
    body: proofBody,
  });
}
describeRoute({ method: 'get', path: `${base}/:configId/nonce`, summary: 'Nonce of the launch, text', auth: 'launch' });
describeRoute({
  method: 'post',
  path: `${base}/:configId/povw/commit`,
  summary: 'Roots of the filled memory',
  auth: 'launch',
  body: commitBody,
});
describeRoute({
  method: 'post',
  path: `${base}/:configId/povw/walk`,
  summary: 'Digests of the walk',
  auth: 'launch',
  body: walkBody,
});
describeRoute({
  method: 'get',
  path: `${base}/:configId/activate`,
  summary: 'The instance serves from now on',
  auth: 'launch',
});
