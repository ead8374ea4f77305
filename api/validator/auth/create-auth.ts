import type { Request, RequestHandler, Response } from 'express';
import type { Knex } from 'knex';
import { cryptoWaitReady } from '@polkadot/util-crypto';
import { apiKeyHmac, isSameHmac } from '../../../activities/validator/auth/api-key-hmac.ts';
import { AuthStore, type AccountRow } from '../../../activities/validator/auth/auth-store.ts';
import { accessOf, covers, parseApiKey } from '../../../workflows/domain/auth/api-keys.ts';
import { NONCE_TOLERANCE_S, type Purpose } from '../../../workflows/domain/auth/signing.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import type { ValidatorConfig } from '../../../workers/config/validator.ts';
import { rawBodyOf, type RawBody } from '../../http/raw-body.ts';
import type { Auth, AuthOptions, Caller, Launch, RegisteredMiner } from './auth.ts';
import { readLaunchToken } from './launch-token.ts';
import { hasHotkeyHeaders, isSignedBy, readSignedHeaders, type SignedHeaders } from './verify-hotkey.ts';

export interface AuthDeps {
  db: Knex;
  config: ValidatorConfig;
  nowMs?: () => number;
}

// One text per kind of credential: which part was wrong is nobody's business.
const refuse = (text: string) => (): Refusal => new Refusal('auth.unauthorized', text);
const noCredentials = refuse('authentication required');
const badSignature = refuse('request signature is not valid');
const notRegistered = refuse('a signature of a registered hotkey is required');
const badApiKey = refuse('API key is not valid for this request');
const badLaunchToken = refuse('launch token is not valid');

const METHODS_WITH_BODY = ['POST', 'PUT', 'PATCH'];

/** Middleware that proves callers; see `Auth` for the contract and spec/validator-api.md §1 for the rules. */
export function createAuth({ db, config, nowMs = Date.now }: AuthDeps): Auth {
  const store = new AuthStore(db);
  const pepper = config.CANOPY_KEY_PEPPER.reveal();

  const signedHeadersOf = (req: Request): SignedHeaders => {
    const headers = readSignedHeaders(req.headers, nowMs() / 1000);
    if (!headers) throw badSignature();
    return headers;
  };

  /** The verified signer. A body-signed request passes once; purpose-signed ones repeat (clients reuse them, §1.2). */
  async function provenHotkey(req: Request, res: Response, purpose: Purpose | undefined): Promise<SignedHeaders> {
    const headers = signedHeadersOf(req);
    const covered = purpose ?? (METHODS_WITH_BODY.includes(req.method) ? bodyOf(res).sha256 : null);
    await cryptoWaitReady();
    if (covered === null || !isSignedBy(headers, covered)) throw badSignature();
    return headers;
  }

  async function refuseRepeat(req: Request, headers: SignedHeaders, purpose: Purpose | undefined): Promise<void> {
    if (purpose !== undefined || !METHODS_WITH_BODY.includes(req.method)) return;
    const expiresAtMs = (Number(headers.nonce) + NONCE_TOLERANCE_S) * 1000 + 60_000;
    if (!(await store.rememberSignature(Buffer.from(headers.signature, 'hex'), expiresAtMs)))
      throw new Refusal('auth.replayed', 'this signed request was already received');
  }

  async function byApiKey(req: Request, authorization: string): Promise<AccountRow> {
    const presented = parseApiKey(authorization);
    if (!presented) throw badApiKey();
    const key = await store.apiKey(presented.apiKeyId, presented.userId);
    if (!key || !isSameHmac(key.secretHmac, apiKeyHmac(pepper, presented.secret))) throw badApiKey();
    if (!covers(key, accessOf(req.method, req.baseUrl + req.path))) throw badApiKey();
    await store.noteUse(presented.apiKeyId, key.lastUsedAt, nowMs());
    return key.account;
  }

  const user =
    ({ purpose, optional = false }: AuthOptions = {}): RequestHandler =>
    async (req, res, next) => {
      let caller: Caller | null = null;
      if (hasHotkeyHeaders(req.headers)) {
        const headers = await provenHotkey(req, res, purpose);
        const account = await store.accountByHotkey(headers.hotkey);
        if (!account && !optional) throw badSignature();
        await refuseRepeat(req, headers, purpose);
        if (account) caller = { ...account, via: 'hotkey' };
      } else if (req.headers.authorization !== undefined) {
        caller = { ...(await byApiKey(req, req.headers.authorization)), via: 'api_key' };
      } else if (!optional) throw noCredentials();
      if (caller) res.locals.caller = caller;
      next();
    };

  // No fall-back to `Authorization`: with it any API key could act as any miner (§1.2 [W] critical).
  const registered =
    ({ purpose }: { purpose?: Purpose } = {}): RequestHandler =>
    async (req, res, next) => {
      if (!hasHotkeyHeaders(req.headers)) throw notRegistered();
      const headers = await provenHotkey(req, res, purpose);
      const miner: RegisteredMiner | null = await store.metagraphNode(config.CANOPY_NETUID, headers.hotkey);
      if (!miner) throw notRegistered();
      await refuseRepeat(req, headers, purpose);
      res.locals.miner = miner;
      next();
    };

  const hotkey =
    ({ purpose }: { purpose?: Purpose } = {}): RequestHandler =>
    async (req, res, next) => {
      if (!hasHotkeyHeaders(req.headers)) throw noCredentials();
      const headers = await provenHotkey(req, res, purpose);
      await refuseRepeat(req, headers, purpose);
      res.locals.verifiedHotkey = headers.hotkey;
      next();
    };

  const preflight =
    ({ registered: mustBeMiner = false }: { registered?: boolean } = {}): RequestHandler =>
    async (req, _res, next) => {
      if (hasHotkeyHeaders(req.headers)) {
        const headers = signedHeadersOf(req);
        const known = mustBeMiner
          ? await store.metagraphNode(config.CANOPY_NETUID, headers.hotkey)
          : await store.accountByHotkey(headers.hotkey);
        if (!known) throw mustBeMiner ? notRegistered() : badSignature();
      } else if (mustBeMiner) throw notRegistered();
      else if (req.headers.authorization === undefined) throw noCredentials();
      else await byApiKey(req, req.headers.authorization);
      next();
    };

  const launchToken: RequestHandler = async (req, res, next) => {
    const authorization = req.headers.authorization ?? '';
    const token = authorization.slice(authorization.lastIndexOf(' ') + 1);
    const configId = await readLaunchToken(config, token, new Date(nowMs()));
    const asked = req.params.configId;
    if (configId === null || typeof asked !== 'string' || configId !== asked.toLowerCase()) throw badLaunchToken();
    res.locals.launch = { configId, token } satisfies Launch;
    next();
  };

  return { user, registered, hotkey, preflight, launchToken };
}

function bodyOf(res: Response): RawBody {
  const body: RawBody | undefined = rawBodyOf(res);
  if (!body) throw new Error('a route with a signed body needs rawBody() before its auth');
  return body;
}
