import { once } from 'node:events';
import { createServer, request as httpRequest } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import OpenAI from 'openai';
import { chatHandler, refuse, sse, startFakeInstance, WORDS, type FakeInstance } from './testing/fake-instance.ts';
import { startGatewayUnderTest } from './testing/gateway-under-test.ts';

let under: Awaited<ReturnType<typeof startGatewayUnderTest>>;
let fakes: FakeInstance[] = [];
let user: { userId: string; username: string };
let key: string;
let chute: { chuteId: string; name: string; slug: string; version: string };

beforeAll(async () => {
  under = await startGatewayUnderTest({
    CANOPY_BODY_LIMIT_BYTES: '20000',
    CANOPY_BODY_TIMEOUT_MS: '300',
    CANOPY_KEY_BURST: '20',
    CANOPY_KEY_REQUESTS_PER_MINUTE: '60',
  });
});
afterAll(() => under.stop());

beforeEach(async () => {
  user = await under.seed.user();
  key = await under.seed.key(user.userId);
  chute = await under.seed.chute(user.userId);
});
afterEach(async () => {
  await Promise.all(fakes.map((fake) => fake.close()));
  fakes = [];
});

async function addInstance(over: Record<string, unknown> = {}): Promise<{ fake: FakeInstance; instanceId: string }> {
  const fake = await startFakeInstance();
  fakes.push(fake);
  const instanceId = await under.seed.instance(chute, fake, over);
  await under.gateway.reload();
  return { fake, instanceId };
}

const post = (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${under.url}${path}`, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
  });
const chat = (over: Record<string, unknown> = {}) => ({
  model: chute.name,
  messages: [{ role: 'user', content: 'hello there, tree' }],
  ...over,
});
const records = async () => {
  await under.gateway.flush();
  return under.db('invocations').where({ chute_id: chute.chuteId }).orderBy('started_at');
};
const openai = () => new OpenAI({ apiKey: key, baseURL: `${under.url}/v1`, maxRetries: 0 });
async function until(claim: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await claim()); tries++) {
    if (tries > 500) throw new Error('never came true');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe('a call', () => {
  test('is answered whole, and metered', async () => {
    const { fake, instanceId } = await addInstance();
    const answer = await openai()
      .chat.completions.create(chat() as never)
      .withResponse();
    expect(answer.data.choices[0]?.message.content).toBe(WORDS.join(''));
    const invocationId = answer.response.headers.get('x-chutes-invocationid');
    expect(answer.response.headers.get('x-chutes-quota-total')).toBe('200');
    expect(answer.response.headers.get('x-chutes-quota-used')).toBe('1');
    expect(fake.seen[0]).toMatchObject({ url: '/v1/chat/completions', body: JSON.stringify(chat()) });
    expect(fake.seen[0]?.headers).not.toHaveProperty('x-forwarded-for');
    const rows = await records();
    expect(rows).toHaveLength(1);
    expect(rows[0]).toMatchObject({
      parent_invocation_id: invocationId,
      user_id: user.userId,
      function_name: 'chat',
      instance_id: instanceId,
      miner_uid: 3,
      miner_hotkey: 'hk',
      error_message: null,
      free: true,
      amount_micro_usd: 0,
      compute_multiplier: 0.5,
      metrics: { it: 7, ot: 4, p: false, mc: 0 },
    });
    const [usage] = await under.db('quota_usage').where({ user_id: user.userId });
    expect(Number(usage.used)).toBe(1);
  });

  test('is streamed as it comes, with usage asked for on the way', async () => {
    const { fake } = await addInstance();
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => (release = resolve));
    fake.answer(async (_req, res, body) => {
      expect(JSON.parse(body)).toMatchObject({ stream_options: { include_usage: true } });
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.write(sse({ choices: [{ index: 0, delta: { content: 'first' } }] }));
      await gate; // the client must have the first token while the second is not there yet
      res.write(sse({ choices: [{ index: 0, delta: { content: 'second' } }] }));
      res.write(sse({ choices: [], usage: { prompt_tokens: 5, completion_tokens: 2 } }));
      res.end(sse('[DONE]'));
    });
    const tokens: string[] = [];
    const stream = (await openai().chat.completions.create(
      chat({ stream: true }) as never,
    )) as unknown as AsyncIterable<OpenAI.ChatCompletionChunk>;
    for await (const chunk of stream) {
      tokens.push(chunk.choices[0]?.delta.content ?? '');
      release();
    }
    expect(tokens.slice(0, 2)).toEqual(['first', 'second']);
    const [row] = await records();
    expect(row).toMatchObject({ function_name: 'chat_stream', metrics: { it: 5, ot: 2, tokens: 2 } });
    expect(row.metrics.ttft).toBeGreaterThan(0);
  });

  test('reaches its chute by host name, by `POST /chutes/{name}/{path}`, by id', async () => {
    const { fake } = await addInstance();
    fake.answer(
      (_req, res) =>
        void res.writeHead(200, { 'content-type': 'application/json', 'set-cookie': 'a=b' }).end('{"echoed":true}'),
    );
    const byHost = await viaHost(`${chute.slug}.canopy.test`, 'GET', '/v1/models');
    const byName = await post(`/chutes/${chute.name}/echo?x=1`, { a: 1 });
    const byId = await post(`/chutes/${chute.chuteId}/echo`, 'plain text', { 'content-type': 'text/plain' });
    const byOwner = await post(`/chutes/${user.username}/${chute.name}/echo`, { a: 1 });
    expect([byHost.status, byName.status, byId.status, byOwner.status]).toEqual([200, 200, 400, 200]);
    expect(byName.headers.get('set-cookie')).toBeNull();
    expect(fake.seen.map(({ url }) => url)).toEqual(['/v1/models', '/echo?x=1', '/echo']);
    expect((await post(`/chutes/${chute.name}/nothing_here`, {})).status).toBe(404);
  });

  test('by an OpenAI client to an error is that error', async () => {
    await addInstance();
    await expect(
      openai().chat.completions.create({ ...chat(), model: 'no-such-model' } as never),
    ).rejects.toMatchObject({ status: 404, code: 'model_not_found', param: 'model' });
    await expect(
      new OpenAI({ apiKey: 'cpk_wrong', baseURL: `${under.url}/v1`, maxRetries: 0 }).chat.completions.create(
        chat() as never,
      ),
    ).rejects.toMatchObject({ status: 401, code: 'invalid_api_key' });
    expect((await openai().models.list()).data.map(({ id }) => id)).toContain(chute.name);
  });
});

describe('refused', () => {
  test.each([
    ['no key', { authorization: '' }, 401, 'invalid_api_key'],
    ['a wrong secret', { authorization: 'x' }, 401, 'invalid_api_key'],
  ])('%s', async (_name, headers, status, code) => {
    const wrong = headers.authorization && `${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`;
    const answer = await post('/v1/chat/completions', chat(), { authorization: wrong });
    expect(answer.status).toBe(status);
    expect(await answer.json()).toMatchObject({ error: { code } });
  });

  test('scope: a key for one chute opens no other, not through the aggregator either', async () => {
    await addInstance();
    const other = await under.seed.chute(user.userId);
    key = await under.seed.key(user.userId, [{ object_type: 'chutes', object_id: other.chuteId, action: 'invoke' }]);
    await under.gateway.reload();
    expect((await post('/v1/chat/completions', chat())).status).toBe(401);
    expect((await post('/v1/chat/completions', chat({ model: other.name }))).status).toBe(503);
  });

  test("another user's private chute looks missing; its slug too", async () => {
    const stranger = await under.seed.user();
    const hidden = await under.seed.chute(stranger.userId, { public: false });
    await under.gateway.reload();
    const asked = await post('/v1/chat/completions', chat({ model: hidden.name }));
    const missing = await post('/v1/chat/completions', chat({ model: hidden.name.replace('model', 'modem') }));
    expect([asked.status, missing.status]).toEqual([404, 404]);
    expect(JSON.stringify(await asked.json()).replace('model-', 'modem-')).toBe(JSON.stringify(await missing.json()));
    expect((await viaHost(`${hidden.slug}.canopy.test`, 'GET', '/v1/models')).status).toBe(404);
  });

  test('without quota and balance: 402 on both kinds of route; a deposit opens the door at once', async () => {
    const { instanceId } = await addInstance();
    await under.db('quotas').insert({ user_id: user.userId, chute_id: '*', quota: 1 });
    await under.gateway.reload();
    expect((await post('/v1/chat/completions', chat())).status).toBe(200);
    const openaiShaped = await post('/v1/chat/completions', chat());
    expect(openaiShaped.status).toBe(402);
    expect(await openaiShaped.json()).toMatchObject({
      error: {
        code: 'quota_exhausted',
        type: 'insufficient_quota',
        quota_reset_timestamp: expect.stringMatching(/T00:00:00/),
      },
    });
    const plain = await post(`/chutes/${chute.name}/echo`, {});
    expect(await plain.json()).toMatchObject({
      detail: { message: expect.any(String), quota_reset_timestamp: expect.any(String) },
    });
    await under.db('ledger').insert({
      entry_id: under.db.raw('gen_random_uuid()'),
      user_id: user.userId,
      amount_micro_usd: 1_000_000,
      reason: 'deposit',
      reference: user.userId,
    });
    await until(async () => (await post('/v1/chat/completions', chat())).status === 200);
    const rows = await records();
    expect(rows.map((row) => [row.free, row.amount_micro_usd > 0, row.instance_id])).toEqual([
      [true, false, instanceId],
      [false, true, instanceId],
    ]);
    const [{ sum }] = await under
      .db('ledger')
      .where({ user_id: user.userId })
      .select(under.db.raw('sum(amount_micro_usd) as sum'));
    expect(Number(sum)).toBe(1_000_000 - rows[1].amount_micro_usd);
  });

  test('past the rate of its key: 429 with when to come back', async () => {
    await under.gateway.reload();
    const answers = [];
    for (let call = 0; call < 21; call++) answers.push(await post('/v1/chat/completions', chat()));
    expect(answers.slice(0, 20).map(({ status }) => status)).toEqual(Array(20).fill(503));
    const last = answers.at(-1) as Response;
    expect(last.status).toBe(429);
    expect(await last.json()).toMatchObject({ error: { code: 'rate_limited' } });
    expect(Number(last.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(last.headers.get('x-ratelimit-limit-requests')).toBe('20');
  });

  test('no instance: 503 cold_start; none with room: 429 capacity', async () => {
    await under.gateway.reload();
    const cold = await post('/v1/chat/completions', chat());
    expect([cold.status, cold.headers.get('retry-after')]).toEqual([503, '10']);
    expect(await cold.json()).toMatchObject({ error: { code: 'cold_start' } });
    await under.db('chutes').where({ chute_id: chute.chuteId }).update({ concurrency: 1 });
    const { fake } = await addInstance();
    let release = (): void => {};
    fake.answer((req, res, body) => {
      release = () => void chatHandler(req, res, body);
    });
    const slow = post('/v1/chat/completions', chat());
    await until(() => fake.seen.length === 1);
    const full = await post('/v1/chat/completions', chat());
    expect(full.status).toBe(429);
    expect(await full.json()).toMatchObject({ error: { code: 'capacity' } });
    release();
    expect((await slow).status).toBe(200);
  });

  test('bad bodies: not JSON 400, too large 413, too slow 408, headers too large 431', async () => {
    await addInstance();
    expect((await post('/v1/chat/completions', '{"model":')).status).toBe(400);
    expect((await post('/v1/chat/completions', '[1]')).status).toBe(400);
    expect((await post('/v1/chat/completions', chat({ pad: 'x'.repeat(30_000) }))).status).toBe(413);
    expect(
      (
        await rawExchange(
          'x'
            .repeat(30_000)
            .match(/.{1000}/g)
            ?.map((part) => `${(1000).toString(16)}\r\n${part}\r\n`)
            .join('') ?? '',
          'transfer-encoding: chunked',
        )
      ).startsWith('HTTP/1.1 413'),
    ).toBe(true);
    expect((await rawExchange('{"mod', 'content-length: 100')).startsWith('HTTP/1.1 408')).toBe(true);
    expect((await rawExchange('', `x-large: ${'y'.repeat(40_000)}`)).startsWith('HTTP/1.1 431')).toBe(true);
  });
});

describe('an instance that', () => {
  test('shows another certificate never sees the request', async () => {
    const { fake } = await addInstance({ tls_cert_sha256: '00'.repeat(32) });
    expect((await post('/v1/chat/completions', chat())).status).toBe(500);
    expect(fake.rawRequests()).toBe(0);
    const [row] = await records();
    expect(row.error_message).toBe('certificate is not the one of the claim');
  });

  test('fails is left for the next, blamed, and the caller pays once', async () => {
    const bad = await addInstance();
    bad.fake.answer((_req, res) => void res.writeHead(502).end('oops'));
    const good = await addInstance();
    const statuses = [];
    // Which one is asked first is drawn: go on until the bad one was, and a little more.
    for (let more = 3; more > 0 && statuses.length < 19; more -= bad.fake.seen.length > 0 ? 1 : 0)
      statuses.push((await post('/v1/chat/completions', chat())).status);
    expect(statuses).toEqual(statuses.map(() => 200));
    const rows = await records();
    const failed = rows.filter((row) => row.error_message !== null);
    expect(failed.length).toBeGreaterThan(0);
    expect(failed.length).toBeLessThan(3); // paused after its failure
    for (const row of failed) {
      expect(row).toMatchObject({ instance_id: bad.instanceId, error_message: 'instance answered 502' });
      expect(
        rows.some(
          (other) => other.parent_invocation_id === row.parent_invocation_id && other.instance_id === good.instanceId,
        ),
      ).toBe(true);
    }
    const [blamed] = await under.db('instances').where({ instance_id: bad.instanceId });
    expect(blamed.consecutive_failures).toBe(failed.length);
    const [usage] = await under.db('quota_usage').where({ user_id: user.userId });
    expect(Number(usage.used)).toBe(statuses.length);
  });

  test('is at its limit is not blamed; a 400 goes back as it is', async () => {
    const { fake, instanceId } = await addInstance();
    fake.answer((_req, res) => refuse(res, 429));
    expect((await post('/v1/chat/completions', chat())).status).toBe(429);
    fake.answer(
      (_req, res) =>
        void res.writeHead(400, { 'content-type': 'application/json' }).end('{"error":{"message":"too long"}}'),
    );
    const bad = await post('/v1/chat/completions', chat());
    expect([bad.status, await bad.json()]).toEqual([400, { error: { message: 'too long' } }]);
    expect((await records()).map((row) => row.error_message)).toEqual(['RATE_LIMIT', 'BAD_REQUEST']);
    const [row] = await under.db('instances').where({ instance_id: instanceId });
    expect(row.consecutive_failures).toBe(0);
  });

  test.each([401, 404, 408, 426, 429])(
    "and says %i itself is the caller's answer: not retried, not blamed",
    async (status) => {
      const answering = [await addInstance(), await addInstance()];
      for (const { fake } of answering)
        fake.answer((_req, res) => void res.writeHead(status, { 'x-own': 'yes' }).end('{"said":"by the chute"}'));
      const answer = await post('/v1/chat/completions', chat());
      expect([answer.status, answer.headers.get('x-own'), await answer.json()]).toEqual([
        status,
        'yes',
        { said: 'by the chute' },
      ]);
      expect(answering.flatMap(({ fake }) => fake.seen)).toHaveLength(1);
      expect((await records()).map((row) => row.error_message)).toEqual(['BAD_REQUEST']);
      const rows = await under.db('instances').where({ chute_id: chute.chuteId });
      expect(rows.map((row) => row.consecutive_failures)).toEqual([0, 0]);
    },
  );

  test.each([401, 503])('whose runtime refuses with %i is blamed, and another one asked', async (status) => {
    const refusing = await addInstance();
    await addInstance();
    refusing.fake.answer((_req, res) => refuse(res, status));
    let answer = await post('/v1/chat/completions', chat());
    for (let calls = 1; refusing.fake.seen.length === 0 && calls < 20; calls++)
      answer = await post('/v1/chat/completions', chat());
    expect([answer.status, answer.headers.get('x-canopy-runtime')]).toEqual([200, null]);
    await records();
    const [row] = await under.db('instances').where({ instance_id: refusing.instanceId });
    expect(row.consecutive_failures).toBe(1);
  });

  test('dies midway ends the stream with an error and is not retried', async () => {
    const first = await addInstance();
    const second = await addInstance();
    const dying: Parameters<FakeInstance['answer']>[0] = (_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.write(sse({ choices: [{ index: 0, delta: { content: 'half' } }] }), () => res.destroy());
    };
    first.fake.answer(dying);
    second.fake.answer(dying);
    const text = await (await post('/v1/chat/completions', chat({ stream: true }))).text();
    expect(text).toContain('half');
    expect(text).toContain('"code":"upstream_failed"');
    const rows = await records();
    expect(rows.map((row) => row.error_message)).toEqual(['ended early: connection closed']);
    expect(first.fake.seen.length + second.fake.seen.length).toBe(1);
  });

  test('streams nothing counts as failed', async () => {
    const { fake } = await addInstance();
    fake.answer((_req, res) => void res.writeHead(200, { 'content-type': 'text/event-stream' }).end());
    expect((await post('/v1/chat/completions', chat({ stream: true }))).status).toBe(500);
    expect((await records()).map((row) => row.error_message)).toEqual(['EMPTY_STREAM']);
  });

  test('is asked by a client that leaves hears of it within a second; what was generated is metered', async () => {
    const { fake } = await addInstance();
    let closedAfterMs = -1;
    let leftAt = 0;
    fake.answer((_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.write(sse({ choices: [{ index: 0, delta: { content: 'a' } }] }));
      res.once('close', () => (closedAfterMs = performance.now() - leftAt));
    });
    const leave = new AbortController();
    const answer = await fetch(`${under.url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify(chat({ stream: true })),
      signal: leave.signal,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    });
    await answer.body?.getReader().read();
    leftAt = performance.now();
    leave.abort();
    await until(() => closedAfterMs >= 0);
    expect(closedAfterMs).toBeLessThan(1000);
    await until(async () => (await records()).length === 1);
    expect((await records())[0]).toMatchObject({ error_message: null, metrics: { ot: 1 } });
  });

  test('a slow reader slows down', async () => {
    const { fake } = await addInstance();
    let written = 0;
    fake.answer(async (_req, res) => {
      res.writeHead(200, { 'content-type': 'application/octet-stream' });
      const block = Buffer.alloc(1024 ** 2);
      const closed = once(res, 'close');
      for (let count = 0; count < 200 && !res.destroyed; count++) {
        written += block.length;
        if (!res.write(block)) await Promise.race([once(res, 'drain'), closed]);
      }
      res.end();
    });
    const answer = await post('/v1/chat/completions', chat());
    await new Promise((resolve) => setTimeout(resolve, 500)); // nothing is read meanwhile: the question is where it stops
    expect(written).toBeLessThan(64 * 1024 ** 2);
    await answer.body?.cancel();
  });
});

test('serves from memory while Postgres refuses connections, and stores everything afterwards', async () => {
  await addInstance();
  const name = new URL(under.databaseUrl).pathname.slice(1);
  const admin = under.db.client.config.connection.connectionString.replace(/\/[^/]*$/, '/postgres');
  const { default: pg } = await import('pg');
  const client = new pg.Client(admin);
  await client.connect();
  await client.query(`alter database ${name} with allow_connections false`);
  await client.query('select pg_terminate_backend(pid) from pg_stat_activity where datname = $1', [name]);
  try {
    expect((await post('/v1/chat/completions', chat())).status).toBe(200);
    await under.gateway.flush();
    expect((await post('/v1/chat/completions', chat())).status).toBe(200);
  } finally {
    await client.query(`alter database ${name} with allow_connections true`);
    await client.end();
  }
  expect(await records()).toHaveLength(2);
});

test('hands everything else to the API as it came, with the peer named anew, and says when it is not there', async () => {
  const api = createServer((req, res) => {
    res.setHeader('set-cookie', ['a=1', 'b=2']);
    let size = 0;
    req.on('data', (chunk: Buffer) => (size += chunk.length));
    req.on('end', () =>
      res
        .writeHead(201)
        .end(JSON.stringify({ url: req.url, host: req.headers.host, forwarded: req.headers['x-forwarded-for'], size })),
    );
  });
  api.on('upgrade', (req, socket) =>
    socket.end(
      `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello ${String(req.headers['x-forwarded-for'])}`,
    ),
  );
  api.listen(0, '127.0.0.1');
  await once(api, 'listening');
  const upstream = `http://127.0.0.1:${(api.address() as AddressInfo).port}`;
  const front = await startGatewayUnderTest({ CANOPY_API_UPSTREAM: upstream, CANOPY_SOCKETS_UPSTREAM: upstream });
  try {
    const answer = await fetch(`${front.url}/images/?a=%20b`, {
      method: 'POST',
      body: Buffer.alloc(300_000),
      headers: { 'x-forwarded-for': '6.6.6.6' },
    });
    expect(answer.status).toBe(201);
    expect(answer.headers.getSetCookie()).toEqual(['a=1', 'b=2']);
    expect(await answer.json()).toEqual({
      url: '/images/?a=%20b',
      host: new URL(front.url).host,
      forwarded: '127.0.0.1',
      size: 300_000,
    });
    const socket = connect(Number(new URL(front.url).port), '127.0.0.1');
    socket.write(
      'GET /socket.io/?EIO=4 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-forwarded-for: 6.6.6.6\r\n\r\n',
    );
    expect(await drainSocket(socket)).toMatch(/^HTTP\/1.1 101[^]*hello 127\.0\.0\.1$/);
    expect(await (await fetch(`${front.url}/_gateway/health`)).json()).toMatchObject({ ready: true });
    expect((await fetch(`${front.url}/_gateway/metrics`, { headers: { 'x-forwarded-for': '1.1.1.1' } })).status).toBe(
      403,
    );
    expect(await (await fetch(`${front.url}/_gateway/metrics`)).text()).toContain('canopy_gateway_requests_total');
    api.close();
    api.closeAllConnections();
    const away = await fetch(`${front.url}/ping`);
    expect([away.status, Object.keys((await away.json()) as object)]).toEqual([503, ['detail']]);
  } finally {
    api.close();
    await front.stop();
  }
});

function viaHost(host: string, method: string, path: string): Promise<{ status: number }> {
  return new Promise((resolve, reject) => {
    const req = httpRequest(`${under.url}${path}`, { method, headers: { host, authorization: key } }, (res) => {
      res.resume();
      res.once('end', () => resolve({ status: res.statusCode ?? 0 }));
    });
    req.once('error', reject).end();
  });
}

async function rawExchange(body: string, header: string): Promise<string> {
  const socket = connect(Number(new URL(under.url).port), '127.0.0.1');
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: ${key}\r\ncontent-type: application/json\r\n${header}\r\n\r\n${body}`,
  );
  return drainSocket(socket);
}
function drainSocket(socket: ReturnType<typeof connect>): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    socket.on('data', (chunk) => (text += chunk.toString()));
    socket.on('error', () => {});
    socket.once('close', () => resolve(text));
  });
}
