import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { Router } from 'express';
import { SignJWT, decodeJwt } from 'jose';
import { loadHotkey, type Hotkey } from '../../../activities/clients/hotkey.ts';
import { apiKeyHmac } from '../../../activities/validator/auth/api-key-hmac.ts';
import { formatApiKey, type StoredScope } from '../../../workflows/domain/auth/api-keys.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { createApp } from '../../http/app.ts';
import { rawBody } from '../../http/raw-body.ts';
import { insertMiner, insertUser, listen, testDeps } from '../testing/test-api.ts';
import { callerOf, launchOf, minerOf, optionalCallerOf, verifiedHotkeyOf } from './auth.ts';
import { mintLaunchToken } from './launch-token.ts';
import { isSs58 } from './verify-hotkey.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let deps: Awaited<ReturnType<typeof testDeps>>['deps'];
let closeDeps: () => Promise<void>;
let server: Awaited<ReturnType<typeof listen>>;
let alice: Awaited<ReturnType<typeof insertUser>>;
let bob: Awaited<ReturnType<typeof insertUser>>;
let miner: Hotkey;
let elsewhere: Hotkey;
let stranger: Hotkey;
const keys: Record<string, string> = {};
const IMAGE = randomUUID();
let bodiesRead = 0;

async function insertKey(
  name: string,
  userId: string,
  admin: boolean,
  scopes: Omit<StoredScope, 'scope_id'>[] = [],
): Promise<void> {
  const apiKeyId = randomUUID();
  const secret = formatApiKey(apiKeyId, userId, randomBytes(16).toString('hex'));
  await database.knex('api_keys').insert({
    api_key_id: apiKeyId,
    user_id: userId,
    name,
    admin,
    secret_hmac: apiKeyHmac(deps.config.CANOPY_KEY_PEPPER.reveal(), secret),
    scopes: JSON.stringify(scopes.map((scope) => ({ scope_id: randomUUID(), ...scope }))),
  });
  keys[name] = secret;
}

beforeAll(async () => {
  database = await createTestDatabase('validator');
  ({ deps, close: closeDeps } = await testDeps(database));
  const { auth } = deps;
  const body = rawBody({ limitBytes: 1000 });
  const router = Router()
    .post(
      '/things/',
      body,
      auth.user(),
      (_req, res) => void res.json({ user: callerOf(res).username, via: callerOf(res).via }),
    )
    .get(
      '/images/:id',
      auth.user({ purpose: 'images' }),
      (_req, res) => void res.json({ user: callerOf(res).username }),
    )
    .get('/images/', auth.user({ purpose: 'images' }), (_req, res) => void res.json({ user: callerOf(res).username }))
    .delete(
      '/images/:id',
      auth.user({ purpose: 'images' }),
      (_req, res) => void res.json({ user: callerOf(res).username }),
    )
    .get('/unsignable', auth.user(), (_req, res) => void res.json({ user: callerOf(res).username }))
    .get(
      '/chutes/',
      auth.user({ purpose: 'chutes', optional: true }),
      (_req, res) => void res.json({ user: optionalCallerOf(res)?.username ?? null }),
    )
    .get('/miner/nodes/', auth.registered({ purpose: 'miner' }), (_req, res) => void res.json(minerOf(res)))
    .post('/nodes/', body, auth.registered(), (_req, res) => void res.json({ hotkey: minerOf(res).hotkey }))
    .post('/users/register', body, auth.hotkey(), (_req, res) => void res.json({ hotkey: verifiedHotkeyOf(res) }))
    .post('/upload', auth.preflight(), (req, res) => {
      bodiesRead++;
      req.resume();
      res.json({ ok: true });
    })
    .put(
      '/instances/launch_config/:configId',
      auth.launchToken,
      (_req, res) => void res.json({ configId: launchOf(res).configId }),
    );
  server = await listen(createApp({ program: 'test', log: deps.log, routers: [router] }));
  alice = await insertUser(database.knex, { username: 'alice' });
  bob = await insertUser(database.knex, { username: 'bob' });
  miner = await insertMiner(database.knex);
  elsewhere = await insertMiner(database.knex, { netuid: 65 });
  stranger = await loadHotkey(randomBytes(32).toString('hex'));
  await insertKey('admin', alice.userId, true);
  await insertKey('read-images', alice.userId, false, [{ object_type: 'images', object_id: null, action: 'read' }]);
  await insertKey('one-image', alice.userId, false, [{ object_type: 'images', object_id: IMAGE, action: null }]);
  await insertKey('chutes', alice.userId, false, [{ object_type: 'chutes', object_id: null, action: null }]);
  await insertKey('bob', bob.userId, true);
});
afterAll(async () => {
  server.close();
  await closeDeps();
  await database.drop();
});

const call = async (method: string, path: string, headers: Record<string, string>, body?: string) => {
  const answer = await fetch(server.url + path, { method, headers, ...(body === undefined ? {} : { body }) });
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
};
const nowS = (offset = 0): string => String(Math.floor(Date.now() / 1000) + offset);
const BODY = '{"a": 1}';
const bearer = (name: string): Record<string, string> => ({ authorization: `Bearer ${keys[name]}` });

test('a body-signed request passes once and its exact repeat never again, also two at once', async () => {
  const headers = alice.hotkey.clientHeaders({ body: BODY });
  expect(await call('POST', '/things/', headers, BODY)).toEqual({
    status: 200,
    body: { user: 'alice', via: 'hotkey' },
  });
  expect((await call('POST', '/things/', headers, BODY)).status).toBe(401);
  const upper = { ...headers, 'x-chutes-signature': `0x${headers['x-chutes-signature']}` };
  expect((await call('POST', '/things/', upper, BODY)).status).toBe(401);
  const again = alice.hotkey.clientHeaders({ body: BODY });
  const both = await Promise.all([call('POST', '/things/', again, BODY), call('POST', '/things/', again, BODY)]);
  expect(new Set(both.map(({ status }) => status))).toEqual(new Set([200, 401]));
});

test('a purpose-signed request repeats: clients reuse one header set', async () => {
  const headers = alice.hotkey.clientHeaders({ purpose: 'images' });
  for (const method of ['GET', 'DELETE', 'GET'])
    expect((await call(method, `/images/${IMAGE}`, headers)).status).toBe(200);
});

type Headers = () => Record<string, string>;
const signed =
  (over: Record<string, string>, of: () => Hotkey = () => alice.hotkey): Headers =>
  () => ({ ...of().clientHeaders({ purpose: 'images' }), ...over });
test.each<[string, string, string, Headers, string | undefined, number]>([
  ['no credentials', 'GET', '/images/x', () => ({}), undefined, 401],
  ['another purpose', 'GET', '/images/x', () => alice.hotkey.clientHeaders({ purpose: 'chutes' }), undefined, 401],
  [
    'the body hash where a purpose is declared',
    'GET',
    '/images/x',
    () => alice.hotkey.clientHeaders({ body: '' }),
    undefined,
    401,
  ],
  [
    'a purpose where the body is signed',
    'POST',
    '/things/',
    () => alice.hotkey.clientHeaders({ purpose: 'images' }),
    BODY,
    401,
  ],
  ['another body', 'POST', '/things/', () => alice.hotkey.clientHeaders({ body: '{"a":1}' }), BODY, 401],
  ['an empty body', 'POST', '/things/', () => alice.hotkey.clientHeaders({ body: '' }), undefined, 200],
  ['a GET without purpose', 'GET', '/unsignable', () => alice.hotkey.clientHeaders({ body: '' }), undefined, 401],
  [
    'a stale nonce',
    'GET',
    '/images/x',
    () => alice.hotkey.clientHeaders({ purpose: 'images' }, nowS(-601)),
    undefined,
    401,
  ],
  [
    'a nonce from the future',
    'GET',
    '/images/x',
    () => alice.hotkey.clientHeaders({ purpose: 'images' }, nowS(601)),
    undefined,
    401,
  ],
  [
    'a nonce just inside',
    'GET',
    '/images/x',
    () => alice.hotkey.clientHeaders({ purpose: 'images' }, nowS(-590)),
    undefined,
    200,
  ],
  [
    'a nonce that is no number',
    'GET',
    '/images/x',
    () => alice.hotkey.clientHeaders({ purpose: 'images' }, '12e3'),
    undefined,
    401,
  ],
  ['a changed nonce', 'GET', '/images/x', signed({ 'x-chutes-nonce': nowS(-300) }), undefined, 401],
  [
    'no nonce',
    'GET',
    '/images/x',
    () => ({ 'x-chutes-hotkey': alice.hotkey.address, 'x-chutes-signature': 'ab'.repeat(64) }),
    undefined,
    401,
  ],
  ['a signature that is no hex', 'GET', '/images/x', signed({ 'x-chutes-signature': 'zz'.repeat(64) }), undefined, 401],
  ['a short signature', 'GET', '/images/x', signed({ 'x-chutes-signature': 'ab' }), undefined, 401],
  [
    "another hotkey's name",
    'GET',
    '/images/x',
    () => ({ ...bob.hotkey.clientHeaders({ purpose: 'images' }), 'x-chutes-hotkey': alice.hotkey.address }),
    undefined,
    401,
  ],
  ['a hotkey that is no address', 'GET', '/images/x', signed({ 'x-chutes-hotkey': "' or 1=1 --" }), undefined, 401],
  ['a hotkey without a user', 'GET', '/images/x', signed({}, () => stranger), undefined, 401],
  [
    'bad hotkey headers beside a good key',
    'GET',
    '/images/x',
    () => ({ ...signed({ 'x-chutes-signature': 'ab'.repeat(64) })(), ...bearer('admin') }),
    undefined,
    401,
  ],
  ['optional: nobody', 'GET', '/chutes/', () => ({}), undefined, 200],
  ['optional: wrong key', 'GET', '/chutes/', () => ({ authorization: 'Bearer nonsense' }), undefined, 401],
  ['optional: wrong signature', 'GET', '/chutes/', () => alice.hotkey.clientHeaders({ purpose: 'me' }), undefined, 401],
  ['optional: a stranger', 'GET', '/chutes/', () => stranger.clientHeaders({ purpose: 'chutes' }), undefined, 200],
])('%s: %s %s answers with the status of the spec', async (_, method, path, headers, body, status) => {
  const answer = await call(method, path, headers(), body);
  expect(answer.status).toBe(status);
  if (status === 401) expect(typeof answer.body.detail).toBe('string');
});

test('the wrapped form browser wallets sign is accepted', async () => {
  const nonce = nowS();
  const message = `<Bytes>${alice.hotkey.address}:${nonce}:images</Bytes>`;
  const headers = {
    'x-chutes-hotkey': alice.hotkey.address,
    'x-chutes-nonce': nonce,
    'x-chutes-signature': alice.hotkey.sign(message),
  };
  expect((await call('GET', '/images/x', headers)).status).toBe(200);
});

test('a registered route knows the miner by its verified hotkey, with no user behind it', async () => {
  const answer = await call('GET', '/miner/nodes/', miner.clientHeaders({ purpose: 'miner' }));
  expect(answer).toEqual({
    status: 200,
    body: { hotkey: miner.address, coldkey: miner.address, uid: 0, blacklistReason: null },
  });
  const body = miner.clientHeaders({ body: BODY });
  expect((await call('POST', '/nodes/', body, BODY)).status).toBe(200);
  expect((await call('POST', '/nodes/', body, BODY)).status).toBe(401);
});

test.each<[string, Headers]>([
  ['an API key', () => bearer('admin')],
  [
    'an API key beside a miner name',
    () => ({ ...bearer('admin'), 'x-chutes-hotkey': miner.address, 'x-chutes-nonce': nowS() }),
  ],
  [
    'an API key beside an empty signature',
    () => ({
      ...bearer('admin'),
      'x-chutes-hotkey': miner.address,
      'x-chutes-nonce': nowS(),
      'x-chutes-signature': '',
    }),
  ],
  ['a user who is no miner', () => alice.hotkey.clientHeaders({ purpose: 'miner' })],
  ['a miner of another network', () => elsewhere.clientHeaders({ purpose: 'miner' })],
  ['the wrong purpose', () => miner.clientHeaders({ purpose: 'launch' })],
  ['nothing', () => ({})],
])('a registered route refuses %s', async (_, headers) =>
  expect((await call('GET', '/miner/nodes/', headers())).status).toBe(401),
);

test.each<[string, string, string, Headers, number]>([
  ['admin key', 'GET', '/unsignable', () => bearer('admin'), 200],
  ['Basic', 'GET', '/images/x', () => ({ authorization: `Basic ${keys.admin}` }), 200],
  ['bare', 'GET', '/images/x', () => ({ authorization: keys.admin ?? '' }), 200],
  ['scope: read any image', 'GET', `/images/${IMAGE}`, () => bearer('read-images'), 200],
  ['scope: list', 'GET', '/images/', () => bearer('read-images'), 200],
  ['scope too small: delete', 'DELETE', `/images/${IMAGE}`, () => bearer('read-images'), 401],
  ['scope: its image', 'DELETE', `/images/${IMAGE}`, () => bearer('one-image'), 200],
  ['scope: another image', 'GET', `/images/${randomUUID()}`, () => bearer('one-image'), 401],
  ['scope: one image, the list', 'GET', '/images/', () => bearer('one-image'), 401],
  ['scope of another type', 'GET', '/images/', () => bearer('chutes'), 401],
  ['scoped key on an account route', 'GET', '/unsignable', () => bearer('chutes'), 401],
  ['last character changed', 'GET', '/images/x', () => ({ authorization: `Bearer ${keys.admin?.slice(0, -1)}_` }), 401],
  [
    'another secret',
    'GET',
    '/images/x',
    () => ({ authorization: `Bearer ${keys.admin?.slice(0, -32)}${'a'.repeat(32)}` }),
    401,
  ],
  [
    "another user's segment",
    'GET',
    '/images/x',
    () => ({ authorization: `Bearer ${keys.admin?.split('.').with(1, bob.userId.replaceAll('-', '')).join('.')}` }),
    401,
  ],
  [
    'unknown id',
    'GET',
    '/images/x',
    () => ({ authorization: `Bearer ${formatApiKey(randomUUID(), alice.userId, 'a'.repeat(32))}` }),
    401,
  ],
  ['empty', 'GET', '/images/x', () => ({ authorization: '' }), 401],
  ['a key where a hotkey must sign', 'POST', '/users/register', () => bearer('admin'), 401],
])('API key, %s', async (_, method, path, headers, status) =>
  expect((await call(method, path, headers())).status).toBe(status),
);

test("another user's key is that user", async () =>
  expect((await call('GET', '/images/x', bearer('bob'))).body).toEqual({ user: 'bob' }));

test('a revoked key stops at once, and use is noted', async () => {
  await insertKey('gone', alice.userId, true);
  expect((await call('GET', '/images/x', bearer('gone'))).status).toBe(200);
  const row = await database.knex('api_keys').where({ name: 'gone' }).first('last_used_at');
  expect(row.last_used_at).toBeInstanceOf(Date);
  await database.knex('api_keys').where({ name: 'gone' }).delete();
  expect((await call('GET', '/images/x', bearer('gone'))).status).toBe(401);
});

test('all failures of one kind read the same', async () => {
  const texts = new Set<unknown>();
  for (const headers of [
    signed({ 'x-chutes-signature': 'ab' })(),
    signed({}, () => stranger)(),
    alice.hotkey.clientHeaders({ purpose: 'me' }),
  ])
    texts.add((await call('GET', '/images/x', headers)).body.detail);
  expect(texts.size).toBe(1);
});

test('any verified hotkey may register', async () => {
  expect(await call('POST', '/users/register', stranger.clientHeaders({ body: BODY }), BODY)).toEqual({
    status: 200,
    body: { hotkey: stranger.address },
  });
});

test('preflight refuses an upload before its body', async () => {
  for (const headers of [
    {},
    bearer('chutes'),
    stranger.clientHeaders({ body: BODY }),
    alice.hotkey.clientHeaders({ body: BODY }, nowS(-700)),
  ])
    expect((await call('POST', '/upload', headers, BODY)).status).toBe(401);
  expect(bodiesRead).toBe(0);
  expect((await call('POST', '/upload', alice.hotkey.clientHeaders({ body: BODY }), BODY)).status).toBe(200);
  expect((await call('POST', '/upload', bearer('admin'), BODY)).status).toBe(200);
});

test('a launch token opens its own launch and no other', async () => {
  const configId = randomUUID();
  const iat = Math.floor(Date.now() / 1000);
  const grant = {
    sub: configId,
    iat,
    env_key: 'ab'.repeat(16),
    chute_id: randomUUID(),
    egress: false,
    lock_modules: false,
    env_type: 'graval' as const,
  };
  const token = await mintLaunchToken(deps.config, grant);
  const claims = decodeJwt(token);
  expect(claims).toMatchObject({
    sub: configId,
    iss: 'chutes',
    iat,
    url: `http://127.0.0.1:8000/instances/launch_config/${configId}`,
    env_type: 'graval',
  });
  expect((claims.exp ?? 0) - iat).toBe(7200 + 150 + 5400);
  const put = async (authorization: string, id = configId) =>
    (await call('PUT', `/instances/launch_config/${id}`, { authorization })).status;
  expect(await put(token)).toBe(200);
  expect(await put(`Bearer ${token}`)).toBe(200);
  expect(await put(token, randomUUID())).toBe(401);
  expect(await put(await mintLaunchToken(deps.config, { ...grant, iat: iat - 20_000 }))).toBe(401);
  expect(await put('')).toBe(401);
  const rawKey = new TextEncoder().encode('a launch key for tests');
  const hexKey = new TextEncoder().encode(createHash('sha256').update('a launch key for tests').digest('hex'));
  const forge = (key: Uint8Array, issuer = 'chutes', alg = 'HS256') =>
    new SignJWT({})
      .setProtectedHeader({ alg })
      .setSubject(configId)
      .setIssuer(issuer)
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(key);
  expect(await put(await forge(hexKey))).toBe(200);
  expect(await put(await forge(rawKey))).toBe(401);
  expect(await put(await forge(hexKey, 'someone'))).toBe(401);
  expect(await put(await forge(hexKey, 'chutes', 'HS512'))).toBe(401);
  const none = `${Buffer.from('{"alg":"none"}').toString('base64url')}.${token.split('.')[1]}.`;
  expect(await put(none)).toBe(401);
});

test('one spelling of an address', () => {
  expect(isSs58(alice.hotkey.address)).toBe(true);
  for (const bad of [
    '',
    '5',
    `${alice.hotkey.address}x`,
    '0x'.padEnd(66, '1'),
    alice.hotkey.address.replace(/.$/, (last) => (last === '1' ? '2' : '1')),
  ])
    expect(isSs58(bad)).toBe(false);
});
