import { Router } from 'express';
import { z } from 'zod';
import { AuthStore } from '../../../activities/validator/auth/auth-store.ts';
import { UsageStore } from '../../../activities/validator/users/usage-store.ts';
import { UserStore, type User } from '../../../activities/validator/users/user-store.ts';
import { isUsername } from '../../../workflows/domain/auth/users.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { ANY_CHUTE, isQuotaFree, quotaOf, utcDay } from '../../../workflows/domain/quotas/quota.ts';
import { describeRoute } from '../../http/openapi.ts';
import { offsetOf, renderPage } from '../../http/pagination.ts';
import { jsonBodyOf, rawBody } from '../../http/raw-body.ts';
import { parse } from '../../http/validate.ts';
import { callerOf, verifiedHotkeyOf } from '../auth/auth.ts';
import type { ValidatorDeps } from '../deps.ts';
import { changeFingerprint } from './change-fingerprint.ts';
import { registerUser } from './register.ts';
import * as wire from './wire.ts';

/** Users of spec/validator-api.md §2.1 that clients of a private network call. */
export function userRoutes(deps: ValidatorDeps): Router {
  const { auth, config, db } = deps;
  const users = new UserStore(db);
  const usage = new UsageStore(db);
  const signatures = new AuthStore(db);
  const body = rawBody({ limitBytes: 64 * 1024, withinMs: 20_000 });
  const self = async (userId: string): Promise<User> => {
    const user = await users.byId(userId);
    if (!user) throw new Error(`proven user ${userId} has no row`);
    return user;
  };

  const router = Router();
  router.get('/users/me', auth.user({ purpose: 'me' }), async (_req, res) => {
    const { userId } = callerOf(res);
    const [user, balance] = await Promise.all([self(userId), users.balanceMicroUsd(userId)]);
    res.json(wire.renderSelf(user, balance));
  });

  router.post(
    '/users/register',
    async (req, _res, next) => {
      if (await users.noteSignup(req.ip ?? 'unknown', config.CANOPY_SIGNUPS_PER_IP)) return next();
      throw new Refusal('rate.limited', `only ${config.CANOPY_SIGNUPS_PER_IP} registrations per address in 24 hours`);
    },
    body,
    auth.hotkey(),
    async (req, res) => {
      const { token } = parse(wire.registrationQuery, req.query, 'query');
      const { username, coldkey } = parse(wire.registrationBody, jsonBodyOf(res));
      const { user, fingerprint } = await registerUser(deps, users, {
        hotkey: verifiedHotkeyOf(res),
        username,
        coldkey,
        token,
      });
      deps.log.info({ event: 'user.registered', userId: user.userId }, 'user.registered');
      res.json(wire.renderRegistration(user, fingerprint));
    },
  );

  router.get('/users/name_check', async (req, res) => {
    const { username } = parse(wire.nameCheckQuery, req.query, 'query');
    const valid = isUsername(username);
    res.json({ valid, available: valid && !(await users.isNameTaken(username)) });
  });

  router.post('/users/change_fingerprint', body, async (req, res) => {
    const { fingerprint } = parse(wire.fingerprintBody, jsonBodyOf(res));
    await changeFingerprint({ auth: signatures, users, nowMs: Date.now() }, req.headers, fingerprint);
    res.json({ status: 'updated' });
  });

  router.get('/users/me/quotas', auth.user(), async (_req, res) => {
    const { userId, permissionsBitmask } = callerOf(res);
    if (isQuotaFree(permissionsBitmask)) return void res.json({});
    const rows = await usage.quotas(userId);
    if (rows.length === 0) return void res.json({ [ANY_CHUTE]: config.CANOPY_DEFAULT_QUOTA });
    res.json(
      rows.map(({ chuteId, quota, updatedAt }) => ({
        user_id: userId,
        chute_id: chuteId,
        is_default: chuteId === ANY_CHUTE,
        payment_refresh_date: null,
        updated_at: updatedAt.toISOString(),
        quota,
      })),
    );
  });

  router.get('/users/me/quota_usage/:chuteId', auth.user(), async (req, res) => {
    const { userId, permissionsBitmask } = callerOf(res);
    if (isQuotaFree(permissionsBitmask)) return void res.json({ quota: 'unlimited', used: 0 });
    const chuteId = String(req.params.chuteId).toLowerCase();
    const rows = new Map((await usage.quotas(userId)).map((row) => [row.chuteId, row.quota]));
    // As for a public chute: whether the id names a private one is its owner's business.
    const { perDay, counter } = quotaOf({ chuteId, isPublic: true }, rows, config.CANOPY_DEFAULT_QUOTA);
    res.json({ quota: perDay, used: await usage.used(userId, counter, utcDay(Date.now())) });
  });

  router.get('/users/me/usage', auth.user(), async (req, res) => {
    const query = parse(wire.usageQuery, req.query, 'query');
    const { total, buckets } = await usage.usage({
      userId: callerOf(res).userId,
      chuteId: query.chute_id,
      perChute: query.per_chute,
      from: query.start_date ?? null,
      to: query.end_date ?? null,
      limit: query.limit,
      offset: offsetOf(query),
    });
    res.json(renderPage(query, total, buckets.map(wire.renderBucket)));
  });
  return router;
}

describeRoute({
  method: 'get',
  path: '/users/me',
  summary: 'The caller',
  auth: 'user',
  purpose: 'me',
  response: wire.selfResponse,
});
describeRoute({
  method: 'post',
  path: '/users/register',
  summary: 'Register the signing hotkey as a user',
  auth: 'hotkey',
  query: wire.registrationQuery,
  body: wire.registrationBody,
  response: wire.registrationResponse,
});
describeRoute({
  method: 'get',
  path: '/users/name_check',
  summary: 'Whether a username is well formed and free',
  auth: 'none',
  query: wire.nameCheckQuery,
  response: wire.nameCheckResponse,
});
describeRoute({
  method: 'post',
  path: '/users/change_fingerprint',
  summary: 'Replace the fingerprint; signed by hotkey or coldkey',
  auth: 'none',
  body: wire.fingerprintBody,
  response: wire.statusResponse,
});
describeRoute({
  method: 'get',
  path: '/users/me/quotas',
  summary: 'Free invocations per day',
  auth: 'user',
  response: z.unknown(),
});
describeRoute({
  method: 'get',
  path: '/users/me/quota_usage/:chuteId',
  summary: "Today's use of a quota",
  auth: 'user',
  response: wire.quotaUsageResponse,
});
describeRoute({
  method: 'get',
  path: '/users/me/usage',
  summary: 'What was spent, by hour',
  auth: 'user',
  query: wire.usageQuery,
  response: wire.usageResponse,
});
