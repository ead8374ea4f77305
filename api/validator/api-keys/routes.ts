import { randomUUID } from 'node:crypto';
import { Router } from 'express';
import { apiKeyHmac } from '../../../activities/validator/auth/api-key-hmac.ts';
import { ApiKeyStore } from '../../../activities/validator/auth/api-key-store.ts';
import { randomAlphanumeric } from '../../../activities/validator/users/fingerprint.ts';
import { formatApiKey } from '../../../workflows/domain/auth/api-keys.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { isUuid } from '../../../workflows/domain/ids.ts';
import { describeRoute } from '../../http/openapi.ts';
import { offsetOf, renderPage } from '../../http/pagination.ts';
import { jsonBodyOf, rawBody } from '../../http/raw-body.ts';
import { parse } from '../../http/validate.ts';
import { callerOf } from '../auth/auth.ts';
import type { ValidatorDeps } from '../deps.ts';
import * as wire from './wire.ts';

/** API keys of the caller (spec/validator-api.md §2.2). The secret is in the answer to its creation and nowhere else. */
export function apiKeyRoutes({ auth, config, db }: ValidatorDeps): Router {
  const keys = new ApiKeyStore(db);
  const signed = auth.user({ purpose: 'api_keys' });
  const notFound = () => new Refusal('resource.not_found', 'no such API key');
  const idOf = (text: unknown): string => {
    if (typeof text !== 'string' || !isUuid(text)) throw notFound();
    return text.toLowerCase();
  };

  const router = Router();
  router.post('/api_keys/', rawBody({ limitBytes: 256 * 1024, withinMs: 20_000 }), auth.user(), async (_req, res) => {
    const asked = wire.readApiKeyBody(parse(wire.apiKeyBody, jsonBodyOf(res)));
    const { userId } = callerOf(res);
    const apiKeyId = randomUUID();
    const secret = formatApiKey(apiKeyId, userId, randomAlphanumeric(32));
    const key = await keys.create({
      apiKeyId,
      userId,
      ...asked,
      secretHmac: apiKeyHmac(config.CANOPY_KEY_PEPPER.reveal(), secret),
    });
    res.setHeader('cache-control', 'no-store');
    res.json({ ...wire.renderApiKey(key), secret_key: secret });
  });

  router.get('/api_keys/', signed, async (req, res) => {
    const query = parse(wire.apiKeyQuery, req.query, 'query');
    const page = await keys.list(callerOf(res).userId, { limit: query.limit, offset: offsetOf(query) });
    res.json(renderPage(query, page.total, page.keys.map(wire.renderApiKey)));
  });

  router.get('/api_keys/:apiKeyId', signed, async (req, res) => {
    const key = await keys.get(callerOf(res).userId, idOf(req.params.apiKeyId));
    if (!key) throw notFound();
    res.json(wire.renderApiKey(key));
  });

  router.delete('/api_keys/:apiKeyId', signed, async (req, res) => {
    const apiKeyId = idOf(req.params.apiKeyId);
    if (!(await keys.delete(callerOf(res).userId, apiKeyId))) throw notFound();
    res.json({ api_key_id: apiKeyId, deleted: true });
  });
  return router;
}

describeRoute({
  method: 'post',
  path: '/api_keys/',
  summary: 'Create an API key; its secret is shown once',
  auth: 'user',
  body: wire.apiKeyBody,
  response: wire.apiKeyCreated,
});
describeRoute({
  method: 'get',
  path: '/api_keys/',
  summary: 'List API keys',
  auth: 'user',
  purpose: 'api_keys',
  query: wire.apiKeyQuery,
  response: wire.apiKeyPage,
});
describeRoute({
  method: 'get',
  path: '/api_keys/:apiKeyId',
  summary: 'One API key',
  auth: 'user',
  purpose: 'api_keys',
  response: wire.apiKeyResponse,
});
describeRoute({
  method: 'delete',
  path: '/api_keys/:apiKeyId',
  summary: 'Delete an API key',
  auth: 'user',
  purpose: 'api_keys',
  response: wire.apiKeyDeleted,
});
