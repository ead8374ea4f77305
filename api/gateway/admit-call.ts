import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { covers } from '../../workflows/domain/auth/api-keys.ts';
import { isObject, prepareVllmBody, readModel, type JsonObject } from '../../workflows/domain/openai/prepare-body.ts';
import { admit, quotaOf, utcDay } from '../../workflows/domain/quotas/quota.ts';
import type { Target } from '../../workflows/domain/routing/host-target.ts';
import { resolveCord, upstreamMethod, upstreamPath } from '../../workflows/domain/routing/resolve-cord.ts';
import { resolveDirect, resolveModel, templatesOf } from '../../workflows/domain/routing/resolve-chute.ts';
import type { RoutedChute, RoutedUser } from '../../workflows/domain/routing/routed.ts';
import { authenticate } from './authenticate.ts';
import { CallRefused, type AdmittedCall, type CallDeps } from './call.ts';
import { headersForInstance } from './headers.ts';
import { readBody } from './read-body.ts';

export type CallTarget = Extract<Target, { kind: 'aggregator' | 'chute' | 'direct' }>;

// One text for unknown, wrong and insufficient (spec/validator-api.md §1.3).
const BAD_KEY = 'Incorrect API key provided, or the key is not allowed to invoke this chute.';

/** Everything before an instance is chosen, in the order of spec/validator-api.md §3.4. Throws `CallRefused`. */
export async function admitCall(
  req: IncomingMessage,
  res: ServerResponse,
  target: CallTarget,
  url: URL,
  deps: CallDeps,
): Promise<AdmittedCall> {
  const { table, accounts, settings } = deps;
  const method = req.method ?? 'GET';
  const isOpenAi = url.pathname.startsWith('/v1/');
  const invocationId = randomUUID();
  res.setHeader('X-Chutes-InvocationID', invocationId);

  const caller = authenticate(req.headers.authorization ?? headerOf(req, 'x-api-key'), table, settings.pepperHex);
  if (!caller) throw refuseBody(res, { code: 'invalid_api_key', message: BAD_KEY });
  const { user, key } = caller;
  takeRate(res, key.keyId, deps);

  const body = await bodyOf(req, res, method, deps);
  const mustBeJson = body !== null && (target.kind === 'aggregator' || isJson(req.headers['content-type']));
  let json = mustBeJson && body.length > 0 ? parseJson(body) : null;
  if (target.kind === 'aggregator' && body !== null && !json)
    throw new CallRefused({ code: 'invalid_json', message: 'The body is not a JSON object.' });

  const found = resolve(target, url.pathname, json, user.userId, deps);
  const { chute } = found;
  // Of the chute behind an aggregator too: the reference checks the aggregator, so a key for one chute opens every model.
  if (!covers(key, { action: 'invoke', objectType: 'chutes', objectId: chute.chuteId }))
    throw new CallRefused({ code: 'insufficient_scope', message: BAD_KEY });
  deps.meter.sawKey(key.keyId);
  if (chute.disabled)
    throw new CallRefused({ code: 'maintenance', message: 'This chute is disabled for maintenance.', retryAfterS: 60 });

  const { isFree, quota, giveBack } = await takeQuota(res, user, chute, deps);
  try {
    const wantsStream = json?.stream === true || ['true', '1'].includes(url.searchParams.get('stream') ?? '');
    const cord = resolveCord(chute, {
      method,
      path: found.path,
      stream: wantsStream,
      isDirect: target.kind === 'direct',
    });
    if (!cord)
      throw new CallRefused({ code: 'not_found', message: `This chute has no function at ${method} ${found.path}.` });
    if (chute.template === 'vllm' && body !== null && method === 'POST' && !json) {
      throw new CallRefused({ code: 'invalid_json', message: 'The body is not a JSON object.' });
    }
    let sent = body;
    if (chute.template === 'vllm' && json) {
      const prepared = prepareForEngine(
        json,
        chute,
        found.wantsThinking || headerOf(req, 'x-enable-thinking')?.toLowerCase() === 'true',
      );
      if (prepared !== json) sent = Buffer.from(JSON.stringify(prepared));
      json = prepared;
    }
    accounts.balance(user.userId); // keeps an active caller's balance fresh
    return {
      invocationId,
      user,
      chute,
      cord,
      isOpenAi,
      method: upstreamMethod(cord),
      path: upstreamPath(cord) + url.search,
      headers: headersForInstance(req.headers),
      body: sent,
      wantsStream,
      promptCharacters: promptCharacters(json),
      steps: stepsOf(chute, json),
      isFree,
      quota,
      giveBack,
    };
  } catch (err) {
    giveBack();
    throw err;
  }
}

const headerOf = (req: IncomingMessage, name: string): string | undefined => {
  const value = req.headers[name];
  return Array.isArray(value) ? value[0] : value;
};
const isJson = (type: string | undefined): boolean => /^application\/([\w.+-]+\+)?json\b/i.test(type ?? '');

/** A refusal before the body was read leaves bytes on the connection: it cannot be used again. */
function refuseBody(res: ServerResponse, error: CallRefused['error']): CallRefused {
  res.setHeader('connection', 'close');
  return new CallRefused(error);
}

function takeRate(res: ServerResponse, keyId: string, { accounts, metrics }: CallDeps): void {
  const taken = accounts.takeRequest(keyId, Date.now());
  res.setHeader('x-ratelimit-limit-requests', String(taken.limit));
  res.setHeader('x-ratelimit-remaining-requests', String(taken.remaining));
  res.setHeader('x-ratelimit-reset-requests', `${(taken.waitMs / 1000).toFixed(3)}s`);
  if (taken.allowed) return;
  metrics.refusals.inc({ code: 'rate_limited' });
  throw refuseBody(res, {
    code: 'rate_limited',
    message: 'Too many requests with this API key.',
    retryAfterS: taken.waitMs / 1000,
  });
}

async function bodyOf(
  req: IncomingMessage,
  res: ServerResponse,
  method: string,
  { settings }: CallDeps,
): Promise<Buffer | null> {
  if (method !== 'POST' && method !== 'PUT' && method !== 'PATCH') return null;
  const read = await readBody(req, { limitBytes: settings.bodyLimitBytes, withinMs: settings.bodyTimeoutMs });
  switch (read.kind) {
    case 'read':
      return read.body;
    case 'too_large':
      throw refuseBody(res, {
        code: 'request_too_large',
        message: `The body is larger than ${settings.bodyLimitBytes} bytes.`,
      });
    case 'too_slow':
      throw refuseBody(res, {
        code: 'request_timeout',
        message: `The body did not arrive within ${settings.bodyTimeoutMs / 1000} s.`,
      });
    case 'aborted':
      throw refuseBody(res, { code: 'invalid_request', message: 'The body ended early.' });
  }
}

function parseJson(body: Buffer): JsonObject | null {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString('utf8'));
  } catch {
    throw new CallRefused({ code: 'invalid_json', message: 'The body is not valid JSON.' });
  }
  return isObject(parsed) ? parsed : null;
}

interface Found {
  chute: RoutedChute;
  path: string;
  wantsThinking: boolean;
}

function resolve(
  target: CallTarget,
  path: string,
  json: JsonObject | null,
  callerId: string,
  { table }: CallDeps,
): Found {
  const canSee = (chute: RoutedChute): boolean => table.canSee(chute, callerId);
  switch (target.kind) {
    case 'chute': {
      const chute = table.bySlug(target.slug);
      if (chute && canSee(chute)) return { chute, path, wantsThinking: false };
      throw new CallRefused({ code: 'not_found', message: 'No such chute.' });
    }
    case 'direct': {
      const found = resolveDirect(target.segments, { callerId, templates: null, chutes: table, canSee });
      if (found) return { ...found, wantsThinking: false };
      throw new CallRefused({ code: 'not_found', message: 'No such chute.' });
    }
    case 'aggregator': {
      const asked = readModel(json?.model);
      if (!asked)
        throw new CallRefused({ code: 'model_not_found', message: 'model not found: (none given)', param: 'model' });
      const templates = templatesOf(target.aggregator, path);
      const chute = resolveModel(asked.model, { callerId, templates, chutes: table, canSee });
      if (chute) return { chute, path, wantsThinking: asked.wantsThinking };
      throw new CallRefused({
        code: 'model_not_found',
        message: `model not found: ${asked.model.slice(0, 200)}`,
        param: 'model',
      });
    }
  }
}

type TakenQuota = Pick<AdmittedCall, 'isFree' | 'quota' | 'giveBack'>;

async function takeQuota(
  res: ServerResponse,
  user: RoutedUser,
  chute: RoutedChute,
  { table, accounts, settings, db, metrics }: CallDeps,
): Promise<TakenQuota> {
  const nowMs = Date.now();
  const day = utcDay(nowMs);
  const quota = quotaOf(chute, table.quotasOf(user.userId), settings.defaultQuota);
  const decide = () =>
    admit({
      user,
      chute,
      quota,
      used: accounts.used(user.userId, quota.counter, day),
      balanceMicroUsd: accounts.balance(user.userId),
      ownerBalanceMicroUsd: accounts.balance(chute.ownerId),
      nowMs,
    });
  let admission = decide();
  if (admission.kind === 'refused') {
    const rechecks = [
      accounts.recheck(db, user.userId),
      ...(chute.isPublic ? [] : [accounts.recheck(db, chute.ownerId)]),
    ];
    if ((await Promise.all(rechecks)).some((isFresh) => isFresh)) admission = decide();
  }
  const counts = admission.kind === 'admitted' ? admission.counts : 0;
  const used = accounts.used(user.userId, quota.counter, day) + counts;
  res.setHeader('X-Chutes-Quota-Total', String(quota.perDay));
  res.setHeader('X-Chutes-Quota-Used', String(used));
  res.setHeader('X-Chutes-Quota-Remaining', String(Math.max(0, quota.perDay - used)));
  if (admission.kind === 'refused') {
    metrics.refusals.inc({ code: 'quota_exhausted' });
    const { message, quotaResetMs } = admission;
    throw new CallRefused({ code: 'quota_exhausted', message, ...(quotaResetMs === null ? {} : { quotaResetMs }) });
  }
  if (counts === 0) return { isFree: admission.isFree, quota: null, giveBack: () => {} };
  return {
    isFree: true,
    quota: { counter: quota.counter, day, counts },
    giveBack: accounts.reserve(user.userId, quota.counter, day, counts),
  };
}

/** The same object when nothing changed: then the caller's own bytes are sent. */
function prepareForEngine(json: JsonObject, chute: RoutedChute, wantsThinking: boolean): JsonObject {
  const prepared = prepareVllmBody(json, { wantsThinking });
  if (prepared.kind === 'refused')
    throw new CallRefused({ code: 'invalid_request', message: prepared.message, param: prepared.param });
  const body = prepared.kind === 'changed' ? prepared.body : json;
  // The engine knows its model by the chute's name only, not by an id or with a suffix.
  return body.model === undefined || body.model === chute.name ? body : { ...body, model: chute.name };
}

/** Characters that become prompt tokens; a bound for what an instance may claim. */
function promptCharacters(json: JsonObject | null): number {
  if (!json) return 0;
  let characters = 0;
  for (const part of [json.messages, json.prompt, json.input, json.tools]) {
    if (typeof part === 'string') characters += part.length;
    else if (part !== undefined) characters += JSON.stringify(part).length;
  }
  return characters;
}

const MOST_STEPS = 50;
function stepsOf(chute: RoutedChute, json: JsonObject | null): number | null {
  if (chute.template !== 'diffusion') return null;
  const asked = json?.num_inference_steps;
  return typeof asked === 'number' && asked >= 1 ? Math.min(MOST_STEPS, Math.floor(asked)) : 25;
}
