import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { randomBytes, randomUUID } from 'node:crypto';
import { loadHotkey, type Hotkey } from '../../activities/clients/hotkey.ts';
import { connectDatabase } from '../../activities/clients/postgres.ts';
import { paymentSecretContext } from '../../activities/validator/users/payment-key.ts';
import { fingerprintHash } from '../../activities/validator/users/fingerprint.ts';
import { userIdOf } from '../../workflows/domain/ids.ts';
import { createTestDatabase } from '../../workers/testing/database.ts';
import { createValidatorApi } from './app.ts';
import { insertUser, listen, testConfig, testDeps } from './testing/test-api.ts';
import { createAuth } from './auth/create-auth.ts';
import { insertNode } from '../../workers/testing/launch-fixture.ts';
import { renderLanding } from './console/landing.ts';
import { html, linkTo } from './console/html.ts';
import { listedServices } from './console/services.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let context: Awaited<ReturnType<typeof testDeps>>;
let server: Awaited<ReturnType<typeof listen>>;
let closed: Awaited<ReturnType<typeof listen>>;
const newHotkey = (): Promise<Hotkey> => loadHotkey(randomBytes(32).toString('hex'));

beforeAll(async () => {
  database = await createTestDatabase('validator');
  context = await testDeps(database, {
    env: {
      CANOPY_NEW_USER_PERMISSIONS: '2048',
      CANOPY_TEMPORAL_UI_URL: 'http://127.0.0.1:8233',
      CANOPY_SERVICES: JSON.stringify([
        { name: '<script>alert(1)</script>', url: 'javascript:alert(1)', kind: 'gateway' },
      ]),
    },
  });
  server = await listen(createValidatorApi(context.deps, []));
  const config = testConfig(database.url, { CANOPY_OPEN_REGISTRATION: 'false' });
  const deps = { ...context.deps, config, auth: createAuth({ db: database.knex, config }) };
  closed = await listen(
    createValidatorApi(
      { ...deps, registry: new (deps.registry.constructor as never as { new (): typeof deps.registry })() },
      [],
    ),
  );
});
afterAll(async () => {
  server.close();
  closed.close();
  await context.close();
  await database.drop();
});

type Json = Record<string, unknown>;
const call = async (
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string,
  base = server.url,
) => {
  const answer = await fetch(base + path, {
    method,
    headers,
    redirect: 'manual',
    ...(body === undefined ? {} : { body }),
  });
  return { status: answer.status, headers: answer.headers, body: (await answer.json()) as Json };
};

// One address each, as the trusted proxy on loopback tells it.
let lastIp = 0;
const register = async (
  hotkey: Hotkey,
  body: string,
  { token = '?token=replaceme', ip = `198.51.100.${++lastIp}`, base = server.url } = {},
) =>
  call(
    'POST',
    `/users/register${token}`,
    { ...hotkey.clientHeaders({ body }), 'content-type': 'application/json', 'x-forwarded-for': ip },
    body,
    base,
  );

test('a hotkey registers once: the answer carries what the SDK reads, the row only what must be kept', async () => {
  const hotkey = await newHotkey();
  // with spaces, as the SDK serialises it: the raw bytes are signed
  const body = `{"username": "Carol_1", "coldkey": "${hotkey.address}"}`;
  const answer = await register(hotkey, body);
  expect(answer.status).toBe(200);
  const { fingerprint, user_id: userId, payment_address: address } = answer.body as Record<string, string>;
  expect(answer.body).toMatchObject({
    username: 'Carol_1',
    hotkey: hotkey.address,
    coldkey: hotkey.address,
    logo_id: null,
    logo: null,
  });
  expect(fingerprint).toMatch(/^[A-Za-z0-9]{32}$/);
  expect(userId).toBe(userIdOf(fingerprintHash(fingerprint ?? '')));
  const row = await database.knex('users').where({ user_id: userId }).first();
  expect(row.fingerprint_hash).toMatch(/^[0-9a-f]{128}$/);
  expect(row.permissions_bitmask).toBe(2048);
  expect(JSON.stringify(row)).not.toContain(fingerprint);
  const mnemonic = context.deps.box.open(row.payment_secret_sealed, paymentSecretContext(userId ?? ''));
  expect(mnemonic.split(' ')).toHaveLength(24);
  expect(() => context.deps.box.open(row.payment_secret_sealed, paymentSecretContext(randomUUID()))).toThrow(
    /authenticate/,
  );

  const me = await call('GET', '/users/me', hotkey.clientHeaders({ purpose: 'me' }));
  expect(me.body).toMatchObject({
    user_id: userId,
    payment_address: address,
    permissions_bitmask: 2048,
    permissions: ['Allow deploying models publicly.'],
    balance: 0,
  });
  expect(Number.isNaN(Date.parse(String(me.body.created_at)))).toBe(false);

  expect((await register(hotkey, body.replace('Carol_1', 'other'))).status).toBe(409);
  const second = await newHotkey();
  expect((await register(second, `{"username": "CAROL_1", "coldkey": "${second.address}"}`)).status).toBe(409);
});

test('two registrations of one name at once: one user', async () => {
  const [a, b] = [await newHotkey(), await newHotkey()];
  const answers = await Promise.all(
    [a, b].map((hotkey) => register(hotkey, `{"username":"race","coldkey":"${hotkey.address}"}`)),
  );
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200, 409]));
});

test.each<[string, string, string, number]>([
  ['no token', '', '{"username":"dave","coldkey":"5"}', 400],
  ['another token', '?token=x', '{"username":"dave","coldkey":"5"}', 403],
  ['a bad name', '?token=replaceme', '{"username":"a b","coldkey":"5"}', 400],
  ['a bad coldkey', '?token=replaceme', '{"username":"dave","coldkey":"5"}', 400],
  ['no coldkey', '?token=replaceme', '{"username":"dave"}', 422],
  ['no JSON', '?token=replaceme', '{', 422],
  ['a list', '?token=replaceme', '[]', 422],
])('registration with %s is refused', async (_, token, body, status) =>
  expect((await register(await newHotkey(), body, { token })).status).toBe(status),
);

test('a closed network says whom to ask; a signature is needed everywhere', async () => {
  const hotkey = await newHotkey();
  const body = `{"username":"erin","coldkey":"${hotkey.address}"}`;
  const answer = await register(hotkey, body, { base: closed.url });
  expect(answer.status).toBe(403);
  expect(answer.body.detail).toContain('operator');
  expect(
    (await call('POST', '/users/register?token=replaceme', { 'x-forwarded-for': '203.0.113.1' }, body)).status,
  ).toBe(401);
});

test('the fourth try from one address in a day is refused, whatever became of the others', async () => {
  const ip = '203.0.113.9';
  const statuses: number[] = [];
  for (const name of ['x', 'frank', 'frank', 'grace', 'heidi']) {
    const hotkey = await newHotkey();
    statuses.push((await register(hotkey, `{"username":"${name}","coldkey":"${hotkey.address}"}`, { ip })).status);
  }
  expect(statuses).toEqual([400, 200, 409, 429, 429]);
  const attempts = await database.knex('signup_attempts').where({ ip }).count<{ count: number }[]>('* as count');
  expect(attempts[0]?.count).toBe(4);
  await database
    .knex('signup_attempts')
    .where({ ip })
    .update({ attempted_at: new Date(Date.now() - 25 * 3_600_000) });
  const late = await newHotkey();
  expect((await register(late, `{"username":"ivan","coldkey":"${late.address}"}`, { ip })).status).toBe(200);
});

test('name check', async () => {
  await insertUser(database.knex, { username: 'Taken' });
  const check = async (name: string) =>
    (await call('GET', `/users/name_check?username=${encodeURIComponent(name)}`)).body;
  expect(await check('tAKEN')).toEqual({ valid: true, available: false });
  expect(await check('free-name')).toEqual({ valid: true, available: true });
  expect(await check('a b')).toEqual({ valid: false, available: false });
  expect(await check('')).toEqual({ valid: false, available: false });
});

async function adminKey(hotkey: Hotkey): Promise<Record<string, string>> {
  const body = '{"name":"usage","admin":true}';
  const answer = await call('POST', '/api_keys/', hotkey.clientHeaders({ body }), body);
  return { authorization: `Bearer ${String(answer.body.secret_key)}` };
}

test('usage comes in hourly buckets, the balance is the sum of the ledger', async () => {
  const { userId, hotkey } = await insertUser(database.knex);
  const key = await adminKey(hotkey);
  const [chuteA, chuteB] = [randomUUID(), randomUUID()].sort((a, b) => (a < b ? -1 : 1));
  const invocation = (startedAt: string, chuteId: string | undefined, amount: number, over: object = {}) => ({
    invocation_id: randomUUID(),
    parent_invocation_id: randomUUID(),
    user_id: userId,
    chute_id: chuteId,
    chute_user_id: userId,
    function_name: 'chat',
    image_id: randomUUID(),
    image_user_id: userId,
    started_at: startedAt,
    amount_micro_usd: amount,
    ...over,
  });
  await database
    .knex('invocations')
    .insert([
      invocation('2026-03-01T10:05:00Z', chuteA, 1_500_000),
      invocation('2026-03-01T10:59:59.999Z', chuteB, 250_000),
      invocation('2026-03-01T11:00:00Z', chuteA, 999, { free: true }),
      invocation('2026-03-01T11:10:00Z', chuteA, 0, { error_message: 'boom' }),
      invocation('2026-03-01T12:10:00Z', chuteA, 7, { user_id: randomUUID() }),
    ]);
  // what the flusher books beside the invocations
  await database.knex('ledger').insert([
    { entry_id: randomUUID(), user_id: userId, amount_micro_usd: 5_000_000, reason: 'test', reference: userId },
    { entry_id: randomUUID(), user_id: userId, amount_micro_usd: -1_750_000, reason: 'usage', reference: userId },
  ]);
  expect((await call('GET', '/users/me/usage', key)).body).toEqual({
    total: 2,
    page: 0,
    limit: 24,
    items: [
      { bucket: '2026-03-01T11:00:00.000Z', amount: 0, count: 1 },
      { bucket: '2026-03-01T10:00:00.000Z', amount: 1.75, count: 2 },
    ],
  });
  expect((await call('GET', '/users/me/usage?per_chute=True&limit=1&page=1', key)).body).toEqual({
    total: 3,
    page: 1,
    limit: 1,
    items: [{ bucket: '2026-03-01T10:00:00.000Z', amount: 1.5, count: 1, chute_id: chuteA }],
  });
  const filtered = `/users/me/usage?chute_id=${chuteB}&start_date=2026-03-01&end_date=2026-03-02T00:00:00Z`;
  expect((await call('GET', filtered, key)).body).toMatchObject({ total: 1, items: [{ amount: 0.25 }] });
  expect((await call('GET', '/users/me/usage?start_date=2026-03-01T11:00:00', key)).body).toMatchObject({ total: 1 });
  expect((await call('GET', '/users/me/usage?chute_id=x', key)).status).toBe(422);
  expect((await call('GET', '/users/me', key)).body.balance).toBe(3.25);
});

test('quotas: the default, then rows; use is read from the counter that applies', async () => {
  const { userId, hotkey } = await insertUser(database.knex);
  const key = await adminKey(hotkey);
  const chuteId = randomUUID();
  expect((await call('GET', '/users/me/quotas', key)).body).toEqual({ '*': 200 });
  await database.knex('quotas').insert([
    { user_id: userId, chute_id: '*', quota: 5 },
    { user_id: userId, chute_id: chuteId, quota: 9 },
  ]);
  const day = new Date().toISOString().slice(0, 10);
  await database.knex('quota_usage').insert([
    { user_id: userId, chute_id: '__default__', day, used: '2.5' },
    { user_id: userId, chute_id: chuteId, day, used: '4' },
    { user_id: userId, chute_id: '__default__', day: '2020-01-01', used: '99' },
  ]);
  expect((await call('GET', `/users/me/quota_usage/${chuteId}`, key)).body).toEqual({ quota: 9, used: 4 });
  expect((await call('GET', `/users/me/quota_usage/${randomUUID()}`, key)).body).toEqual({ quota: 5, used: 2.5 });
  expect((await call('GET', '/users/me/quotas', key)).body).toMatchObject([
    { user_id: userId, chute_id: '*', is_default: true, payment_refresh_date: null, quota: 5 },
    { chute_id: chuteId, is_default: false, quota: 9 },
  ]);
  await database.knex('users').where({ user_id: userId }).update({ permissions_bitmask: 16 });
  expect((await call('GET', '/users/me/quotas', key)).body).toEqual({});
  expect((await call('GET', `/users/me/quota_usage/${chuteId}`, key)).body).toEqual({ quota: 'unlimited', used: 0 });
});

test('a fingerprint is changed by hotkey or coldkey, each against its own key, and not replayed', async () => {
  const user = await insertUser(database.knex);
  const coldkey = await newHotkey();
  await database.knex('users').where({ user_id: user.userId }).update({ coldkey: coldkey.address });
  const fresh = (char: string): string => char.repeat(32);
  const change = async (
    signer: Hotkey,
    name: 'hotkey' | 'coldkey',
    fingerprint: string,
    { address = signer.address, ageS = 0 } = {},
  ) => {
    const nonce = String(Math.floor(Date.now() / 1000) - ageS);
    const headers = {
      [`x-chutes-${name}`]: address,
      'x-chutes-nonce': nonce,
      'x-chutes-signature': signer.sign(`${address}:${fingerprint}:${nonce}`),
    };
    return {
      headers,
      status: (await call('POST', '/users/change_fingerprint', headers, JSON.stringify({ fingerprint }))).status,
    };
  };
  const stored = async () =>
    (await database.knex('users').where({ user_id: user.userId }).first('fingerprint_hash')).fingerprint_hash;
  const first = await change(user.hotkey, 'hotkey', fresh('a'));
  expect([first.status, await stored()]).toEqual([200, fingerprintHash(fresh('a'))]);
  expect(
    (await call('POST', '/users/change_fingerprint', first.headers, JSON.stringify({ fingerprint: fresh('a') })))
      .status,
  ).toBe(401);
  expect([(await change(coldkey, 'coldkey', fresh('b'))).status, await stored()]).toEqual([
    200,
    fingerprintHash(fresh('b')),
  ]);
  for (const refused of [
    change(user.hotkey, 'coldkey', fresh('c')),
    change(user.hotkey, 'coldkey', fresh('c'), { address: coldkey.address }),
    change(user.hotkey, 'hotkey', fresh('c'), { ageS: 301 }),
    change(await newHotkey(), 'hotkey', fresh('c')),
  ])
    expect((await refused).status).toBe(401);
  await insertUser(database.knex).then(({ userId }) =>
    database.knex('users').where({ user_id: userId }).update({ coldkey: coldkey.address }),
  );
  expect((await change(coldkey, 'coldkey', fresh('d'))).status).toBe(409);
  expect(await stored()).toBe(fingerprintHash(fresh('b')));
});

test('keys: created with their secret shown once, listed, read, deleted; another user sees none of it', async () => {
  const { userId, hotkey } = await insertUser(database.knex);
  const other = await insertUser(database.knex);
  // twice each scope, one with a null action: as the CLI sends them
  const body = JSON.stringify({
    name: 'ci key',
    admin: false,
    unknown: 1,
    scopes: [
      { object_type: 'images', object_id: null, action: null },
      { object_type: 'images' },
      { object_type: 'chutes', object_id: 'x', action: 'invoke' },
    ],
  });
  const create = (text: string) => call('POST', '/api_keys/', hotkey.clientHeaders({ body: text }), text);
  const created = await create(body);
  expect(created.status).toBe(200);
  expect(created.body.secret_key).toMatch(/^cpk_[a-f0-9]{32}\.[a-f0-9]{32}\.[a-zA-Z0-9]{32}$/);
  expect(created.body).toMatchObject({ user_id: userId, admin: false, name: 'ci key', last_used_at: null });
  expect(created.body.scopes).toEqual([
    { scope_id: expect.any(String), object_type: 'images', object_id: null, method: null, action: null },
    { scope_id: expect.any(String), object_type: 'chutes', object_id: 'x', method: 'invoke', action: 'invoke' },
  ]);
  const id = String(created.body.api_key_id);
  const { secret_key: _secret, ...shown } = created.body;
  const as = (who: Hotkey) => who.clientHeaders({ purpose: 'api_keys' });
  expect((await call('GET', `/api_keys/${id.toUpperCase()}`, as(hotkey))).body).toEqual(shown);
  expect((await call('GET', '/api_keys/?page=0&limit=25&name=zzz', as(hotkey))).body).toEqual({
    total: 1,
    page: 0,
    limit: 25,
    items: [shown],
  });
  expect((await call('GET', '/api_keys/', as(other.hotkey))).body).toMatchObject({ total: 0, items: [] });
  for (const method of ['GET', 'DELETE'])
    expect((await call(method, `/api_keys/${id}`, as(other.hotkey))).status).toBe(404);
  expect((await call('GET', '/api_keys/not-a-uuid', as(hotkey))).status).toBe(404);
  expect((await create(body)).status).toBe(409);
  expect((await call('DELETE', `/api_keys/${id}`, as(hotkey))).body).toEqual({ api_key_id: id, deleted: true });
  expect((await call('DELETE', `/api_keys/${id}`, as(hotkey))).status).toBe(404);
  const stored = await database.knex('api_keys').where({ user_id: userId }).select();
  expect(stored).toEqual([]);
});

test.each<[string, object, number]>([
  ['a bad name', { name: 'a/b', admin: true }, 400],
  ['a bad type', { name: 'a', admin: false, scopes: [{ object_type: 'users' }] }, 400],
  ['a null type', { name: 'a', admin: false, scopes: [{ object_type: null }] }, 400],
  ['a bad action', { name: 'a', admin: false, scopes: [{ object_type: 'chutes', action: 'own' }] }, 400],
  ['no admin flag', { name: 'a' }, 422],
  ['scopes that are no list', { name: 'a', admin: false, scopes: 'chutes' }, 422],
])('a key with %s is refused', async (_, asked, status) => {
  const { hotkey } = await insertUser(database.knex);
  const body = JSON.stringify(asked);
  expect((await call('POST', '/api_keys/', hotkey.clientHeaders({ body }), body)).status).toBe(status);
});

test('a scoped key makes no keys', async () => {
  const { hotkey } = await insertUser(database.knex);
  const body = '{"name":"small","admin":false,"scopes":[{"object_type":"chutes"}]}';
  const key = await call('POST', '/api_keys/', hotkey.clientHeaders({ body }), body);
  const authorization = `Bearer ${String(key.body.secret_key)}`;
  expect((await call('POST', '/api_keys/', { authorization }, '{"name":"big","admin":true}')).status).toBe(401);
});

test('the document lists every route served here; slash-less collections redirect', async () => {
  const { body } = await call('GET', '/openapi.json');
  expect(Object.keys(body.paths as Json)).toEqual(
    expect.arrayContaining([
      '/ping',
      '/users/me',
      '/users/register',
      '/users/me/usage',
      '/api_keys/',
      '/api_keys/{apiKeyId}',
    ]),
  );
  const docs = await (await fetch(`${server.url}/docs`)).text();
  expect(docs).toContain('/users/me/quota_usage/:chuteId');
  expect(docs).not.toMatch(/<script|<link|src=/);
  const answer = await fetch(`${server.url}/api_keys?page=1`, { redirect: 'manual' });
  expect([answer.status, answer.headers.get('location')]).toEqual([307, '/api_keys/?page=1']);
  expect((await call('GET', '/nothing/here')).body).toEqual({ detail: 'Not Found' });
});

test('ping and health tell a dead database from a live one', async () => {
  expect((await call('GET', '/ping')).body).toEqual({ message: 'pong' });
  expect((await call('GET', '/health')).body).toEqual({ healthy: true, postgres: true, temporal: true, s3: true });
  const db = connectDatabase({ url: database.url.replace(/:[0-9]+\//, ':1/'), poolMax: 1, applicationName: 'dead' });
  const deaf = await listen(
    createValidatorApi(
      {
        ...context.deps,
        db,
        registry: new (context.deps.registry.constructor as never as { new (): typeof context.deps.registry })(),
      },
      [],
    ),
  );
  try {
    expect((await call('GET', '/ping', {}, undefined, deaf.url)).status).toBe(503);
    expect((await call('GET', '/health', {}, undefined, deaf.url)).body).toMatchObject({
      healthy: false,
      postgres: false,
      temporal: true,
    });
    const page = await fetch(`${deaf.url}/`);
    expect([page.status, (await page.text()).includes('counts are unknown')]).toEqual([200, true]);
  } finally {
    deaf.close();
    await db.destroy();
  }
});

test('the landing page shows what runs and escapes every name', async () => {
  const { userId } = await insertUser(database.knex);
  await database.knex('instance_audit').insert({
    instance_id: randomUUID(),
    config_id: randomUUID(),
    chute_id: randomUUID(),
    version: randomUUID(),
    miner_hotkey: '<b>5miner</b>',
    miner_coldkey: userId,
    miner_uid: 1,
    gpu_count: 1,
    compute_multiplier: 1,
    trust_level: 'simulated',
    permitted_at: new Date(),
    deleted_at: new Date(),
    removal_code: 'proof_wrong',
    deletion_reason: '<img src=x onerror=alert(1)>',
  });
  const answer = await fetch(`${server.url}/`);
  const text = await answer.text();
  expect(answer.headers.get('content-security-policy')).toContain("default-src 'none'");
  expect(text).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
  expect(text).not.toMatch(/<script|<img|href="javascript|<b>5/);
  expect(text).toContain('proof_wrong');
  expect(text).toContain('tag simulated');
  expect(text).toContain('href="http://127.0.0.1:8233"');
});

test('the page shows what each GPU proved, and where its proof can be fetched', async () => {
  const uuid = await insertNode(database.knex, '5miner', {
    proof_summary: JSON.stringify({
      trustLevel: 'simulated',
      fillMs: 1234,
      walkMs: 56,
      gpus: [{ bytesFilled: 3 * 1024 ** 3, samplesChecked: 256, verified: true, record: { key: 'k' } }],
    }),
  });
  const text = await (await fetch(`${server.url}/`)).text();
  for (const shown of ['3 GiB', '1.2 s', '56 ms', '256', `href="/nodes/${uuid}/proof"`]) expect(text).toContain(shown);
});

test('templates escape values, attributes included; only web addresses become links', async () => {
  expect(html`<a title="${`"'<>&`}">${['<', html`<i>${'&'}</i>`]}</a>`.text).toBe(
    '<a title="&quot;&#39;&lt;&gt;&amp;">&lt;<i>&amp;</i></a>',
  );
  expect(['http://x', 'https://x', '/docs', '//evil', 'javascript:1', 'data:x'].map(linkTo)).toEqual([
    'http://x',
    'https://x',
    '/docs',
    '#',
    '#',
    '#',
  ]);
  expect(await listedServices('{not json')).toEqual([]);
  expect(
    renderLanding({
      url: 'http://x',
      temporalUiUrl: null,
      proof: 'none',
      isInside: false,
      parts: {},
      services: [],
      overview: null,
      now: new Date(0),
    }),
  ).toContain('What runs');
});
