import { afterEach, describe, expect, test } from '@jest/globals';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { request as plainRequest } from 'node:http';
import { loadHotkey } from '../../activities/clients/hotkey.ts';
import { PROFILES } from '../../workflows/domain/proof/profiles.ts';
import { startFakeValidator, type FakeValidatorOptions, type Override, type Step } from './testing/fake-validator.ts';
import { bodyOf, callInstance, GPU_UUIDS, startTestRuntime, type TestRuntime } from './testing/test-runtime.ts';

const miner = await loadHotkey('11'.repeat(32));
const validatorKey = await loadHotkey('22'.repeat(32));
const addresses = { miner: miner.address, validator: validatorKey.address };

// A chute that tells what it was asked and what it knows, can stream, hang, and die.
const CODE = `
import http from 'node:http';
const open = new Set();
http.createServer((req, res) => {
  if (req.url === '/health') return res.end('ok');
  if (req.url === '/no') { res.writeHead(429, { 'X-Canopy-Runtime': 'refused', 'x-own': 'yes' }); return res.end('own'); }
  if (req.url === '/die') return process.exit(7);
  if (req.url === '/open') return res.end(String(open.size));
  if (req.url === '/hang') { open.add(res); res.on('close', () => open.delete(res)); res.write('first '); return; }
  if (req.url === '/cut') { res.writeHead(200, {'content-length': 100}); res.write('half'); setTimeout(() => res.destroy(), 20); return; }
  if (req.url === '/slow') { setTimeout(() => res.end('slow done'), 300); return; }
  let body = '';
  req.on('data', (c) => (body += c)).on('end', () => {
    console.log('got ' + req.method + ' ' + req.url);
    res.writeHead(201, { 'content-type': 'application/json', 'x-own': 'yes' });
    res.end(JSON.stringify({ method: req.method, url: req.url, headers: req.headers, body, env: process.env }));
  });
}).listen(Number(process.env.PORT), process.env.HOST);
`;
const chute = { code: CODE, filename: 'chute.py', secrets: { MY_SECRET: 'hush', CANOPY_EVIL: 'x', PORT: '1' } };
const command = [
  process.execPath,
  '--input-type=module',
  '-e',
  "await import('data:text/javascript,' + encodeURIComponent(await (await import('node:fs/promises')).readFile('chute.py','utf8')))",
];

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function boot(options: Partial<FakeValidatorOptions> & { env?: NodeJS.ProcessEnv; command?: string[] } = {}) {
  const validator = await startFakeValidator({ chute, ...options });
  cleanups.push(() => validator.close());
  const runtime = await startTestRuntime({
    validator,
    command: options.command ?? command,
    addresses,
    ...(options.env ? { env: options.env } : {}),
  });
  cleanups.push(async () => {
    runtime.stop();
    await runtime.end;
    await runtime.remove();
  });
  const call = (path: string, more: object = {}) =>
    callInstance({ port: runtime.port, path, secret: validator.sessionSecret, ...more });
  return { validator, runtime, call };
}

const serving = async (options: Parameters<typeof boot>[0] = {}) => {
  const all = await boot(options);
  await all.runtime.isActive();
  return all;
};
const untilText = async (call: () => Promise<string>, wanted: string): Promise<void> => {
  for (
    const deadline = Date.now() + 5000;
    (await call()) !== wanted;
    await new Promise((resolve) => setTimeout(resolve, 10))
  ) {
    if (Date.now() > deadline) throw new Error(`never became ${wanted}`);
  }
};

describe('launch', () => {
  test('every assigned GPU is proven and the secret opens; the code is on disk before the chute starts', async () => {
    const { validator, runtime, call } = await serving();
    expect(validator.steps).toEqual(['claim', 'commit', 'walk', 'openings', 'openings', 'verify', 'activate']);
    expect(validator.state.claim?.gpus.map(({ uuid }) => uuid)).toEqual(GPU_UUIDS);
    expect(validator.state.verdicts.map(({ verified }) => verified)).toEqual([true, true]);
    expect(
      validator.state.claim?.port_mappings.map(({ internal_port, external_port }) => [internal_port, external_port]),
    ).toEqual([
      [8000, runtime.port],
      [8001, runtime.logPort],
    ]);
    expect(await readFile(join(runtime.appDir, 'chute.py'), 'utf8')).toBe(CODE);
    const health = await call('/_canopy/health', { certificate: validator.state.claim?.canopy?.tls_cert });
    expect(health.statusCode).toBe(200);
    expect(JSON.parse(await bodyOf(health))).toEqual({ ready: true, in_flight: 0, concurrency: 2, draining: false });
  });

  test('plug-in none needs no proof', async () => {
    const { validator } = await serving({ plugin: 'none' });
    expect(validator.steps).toEqual(['claim', 'verify', 'activate']);
  });

  test('network faults, 429 and 5xx are tried again', async () => {
    const override = (step: Step, attempt: number): Override =>
      attempt === 0
        ? 'hang up'
        : attempt === 1
          ? { status: step === 'claim' ? 503 : 429, body: { detail: 'busy' } }
          : null;
    const { validator } = await serving({
      override: (step, attempt) => (step === 'activate' ? null : override(step, attempt)),
    });
    const counts = Object.groupBy(validator.steps, (step) => step);
    expect(counts).toMatchObject({ claim: { length: 3 }, openings: { length: 4 }, verify: { length: 3 } });
    expect(validator.state.verdicts.map(({ verified }) => verified)).toEqual([true, true]);
  });

  test.each<[Step, number]>([
    ['claim', 403],
    ['claim', 423],
    ['commit', 403],
    ['walk', 403],
    ['openings', 403],
    ['verify', 403],
    ['activate', 423],
    ['activate', 410],
  ])('a refusal of %s with %i is final and said', async (refused, status) => {
    const { validator, runtime } = await boot({
      override: (step) => (step === refused ? { status, body: { detail: 'no more of these' } } : null),
    });
    const end = await runtime.end;
    expect(end).toEqual({ kind: 'failed', reason: `${refused} was refused with ${status}: no more of these` });
    const attempts = validator.steps.filter((step) => step === refused).length;
    expect(attempts).toBeGreaterThanOrEqual(1);
    // Openings of two GPUs travel at once: the second may be on its way when the first is refused. None is tried again.
    expect(attempts).toBeLessThanOrEqual(refused === 'openings' ? GPU_UUIDS.length : 1);
  });

  test('openings that arrive changed end the launch', async () => {
    const { runtime } = await boot({
      override: (step) => (step === 'openings' ? { status: 200, body: { sha256: '0'.repeat(64) } } : null),
    });
    expect(await runtime.end).toEqual({
      kind: 'failed',
      reason: expect.stringMatching(/^the openings .+ arrived changed$/),
    });
  });

  test('a profile for a GPU is not proven by a CPU; the end says what is missing', async () => {
    const profile = { ...PROFILES['tiny-a'], name: 'h100', n: 16_384, blocks: 284 };
    const { runtime, validator } = await boot({ profile });
    expect(await runtime.end).toEqual({
      kind: 'failed',
      reason: 'profile h100 is for a GPU, not for a CPU: build graval (npm run build:gpu) and name it in CANOPY_GRAVAL',
    });
    expect(validator.steps).toEqual(['claim']);
  });

  test('a stop while the GPUs fill ends it at once', async () => {
    // ten seconds and more for a prover that is let finish
    const profile = { ...PROFILES['cpu-dev'], n: 512, blocks: 60 };
    const { runtime, validator } = await boot({ profile });
    while (!validator.steps.includes('claim')) await new Promise((resolve) => setTimeout(resolve, 10));
    const stoppedAt = Date.now();
    runtime.stop();
    expect(await runtime.end).toEqual({ kind: 'stopped' });
    expect(Date.now() - stoppedAt).toBeLessThan(3000);
  });

  test('a graval that does not run fails the launch before a permission is spent', async () => {
    const { runtime, validator } = await boot({ env: { CANOPY_GRAVAL: '/no/such/graval' } });
    expect(await runtime.end).toEqual({
      kind: 'failed',
      reason: 'CANOPY_GRAVAL: /no/such/graval does not run; without it TypeScript proves',
    });
    expect(validator.steps).toEqual([]);
  });

  test('activation is tried ten times', async () => {
    const { validator, runtime } = await boot({
      override: (step) => (step === 'activate' ? { status: 500, body: {} } : null),
    });
    expect((await runtime.end).kind).toBe('failed');
    expect(validator.steps.filter((step) => step === 'activate')).toHaveLength(10);
  });

  test('a chute that ends before it serves fails with its last words', async () => {
    const { runtime, validator } = await boot({ command: ['/bin/sh', '-c', 'echo no module named torch; exit 3'] });
    const end = await runtime.end;
    expect(end).toEqual({
      kind: 'failed',
      reason: 'the chute sh exited with 3 before it served:\nno module named torch',
    });
    expect(validator.steps).not.toContain('activate');
  });

  test('a command that does not exist is named', async () => {
    const { runtime } = await boot({ command: ['/no/such/program'] });
    expect(await runtime.end).toMatchObject({
      kind: 'failed',
      reason: expect.stringContaining('/no/such/program cannot be started'),
    });
  });

  test.each(['../evil.py', '/etc/passwd', 'x.sh'])('a filename like %s never becomes a path', async (filename) => {
    const { runtime } = await boot({ chute: { ...chute, filename } });
    expect(await runtime.end).toMatchObject({
      kind: 'failed',
      reason: expect.stringContaining('filename is not usable'),
    });
  });

  test('a stop during the launch ends it cleanly', async () => {
    const { runtime } = await boot({ command: ['/bin/sleep', '60'] });
    while (!(await readFile(join(runtime.workDir, '_chute.log'), 'utf8')).includes('starting the chute'))
      await new Promise((resolve) => setTimeout(resolve, 10));
    runtime.stop();
    expect(await runtime.end).toEqual({ kind: 'stopped' });
  });
});

describe('serving', () => {
  test('method, path, query, body and headers arrive as sent; the secret and the launch do not', async () => {
    const { call, validator } = await serving();
    const res = await call('/v1/x?a=1&b=%20', {
      method: 'POST',
      body: '{"é":1}',
      headers: { 'content-type': 'application/json', 'x-canopy-request-id': 'r1', connection: 'x-hop', 'x-hop': '1' },
    });
    const seen = JSON.parse(await bodyOf(res)) as {
      method: string;
      url: string;
      body: string;
      headers: Record<string, string>;
      env: Record<string, string>;
    };
    expect([res.statusCode, res.headers['x-own']]).toEqual([201, 'yes']);
    expect([seen.method, seen.url, seen.body]).toEqual(['POST', '/v1/x?a=1&b=%20', '{"é":1}']);
    expect(seen.headers).toMatchObject({ 'x-canopy-request-id': 'r1', 'content-type': 'application/json' });
    expect(seen.headers.authorization).toBeUndefined();
    expect(seen.headers['x-hop']).toBeUndefined();
    expect(seen.env).toMatchObject({
      MY_SECRET: 'hush',
      IMAGE_VARIABLE: 'kept',
      HOST: '127.0.0.1',
      CHUTES_EXECUTION_CONTEXT: 'REMOTE',
    });
    expect(seen.env.PORT).not.toBe('1');
    const launch = Object.keys(seen.env).filter((name) => /^(CANOPY|CHUTES)_/.test(name));
    expect(launch).toEqual(['CHUTES_EXECUTION_CONTEXT']);
    expect(JSON.stringify(seen)).not.toContain(validator.sessionSecret);
  });

  test.each([undefined, 'wrong', ''])('without the secret (%s) nothing is answered but 401', async (secret) => {
    const { runtime } = await serving();
    for (const path of ['/', '/_canopy/health']) {
      const res = await callInstance({ port: runtime.port, path, ...(secret === undefined ? {} : { secret }) });
      expect([res.statusCode, res.headers['x-canopy-runtime']]).toEqual([401, 'refused']);
    }
  });

  test('past its concurrency the answer is 429, and a freed place is usable at once', async () => {
    const { call } = await serving();
    const abort = new AbortController();
    const held = await Promise.all([call('/hang', { signal: abort.signal }), call('/hang', { signal: abort.signal })]);
    for (const res of held) res.on('error', () => {});
    const third = await call('/');
    expect(third.headers['x-canopy-runtime']).toBe('refused');
    expect([third.statusCode, JSON.parse(await bodyOf(third))]).toEqual([
      429,
      { error: 'RateLimitExceeded', detail: 'instance is at its concurrency of 2' },
    ]);
    expect((await call('/_canopy/health')).statusCode).toBe(200);
    abort.abort();
    // Both places are free only when the chute's own requests have ended.
    await untilText(async () => {
      const res = await call('/open');
      return res.statusCode === 200 ? bodyOf(res) : '';
    }, '0');
  });

  test("a refusal of the chute's own is never marked as the runtime's, whatever the chute says", async () => {
    const { call } = await serving();
    const res = await call('/no');
    expect([res.statusCode, res.headers['x-own'], res.headers['x-canopy-runtime']]).toEqual([429, 'yes', undefined]);
    expect(await bodyOf(res)).toBe('own');
  });

  test('a caller who leaves ends the work in the chute within a second', async () => {
    const { call } = await serving();
    const abort = new AbortController();
    const res = await call('/hang', { signal: abort.signal });
    res.on('error', () => {});
    expect(await bodyOf(await call('/open'))).toBe('1');
    const leftAt = Date.now();
    abort.abort();
    await untilText(async () => bodyOf(await call('/open')), '0');
    expect(Date.now() - leftAt).toBeLessThan(1000);
  });

  test('an answer cut by the chute is cut for the caller too', async () => {
    const { call } = await serving();
    await expect(bodyOf(await call('/cut'))).rejects.toThrow('aborted');
  });

  test('a stop lets requests finish, refuses new ones as Draining, and leaves no process', async () => {
    const { call, runtime } = await serving();
    const env = JSON.parse(await bodyOf(await call('/env'))) as { env: { PORT: string } };
    const slow = call('/slow');
    await untilText(
      async () => String((JSON.parse(await bodyOf(await call('/_canopy/health'))) as { in_flight: number }).in_flight),
      '1',
    );
    runtime.stop();
    const refused = await call('/');
    expect(refused.headers['x-canopy-runtime']).toBe('refused');
    expect([refused.statusCode, (JSON.parse(await bodyOf(refused)) as { error: string }).error]).toEqual([
      503,
      'Draining',
    ]);
    expect(await bodyOf(await slow)).toBe('slow done');
    expect(await runtime.end).toEqual({ kind: 'stopped' });
    await expect(fetch(`http://127.0.0.1:${env.env.PORT}/health`)).rejects.toThrow('fetch failed');
  });

  test('requests that outlast the drain are cut', async () => {
    const { call, runtime } = await serving({ env: { CANOPY_DRAIN_SECONDS: '0.2' } });
    const hanging = await call('/hang');
    const ended = bodyOf(hanging).then(
      () => 'finished',
      () => 'cut',
    );
    runtime.stop();
    expect([await ended, await runtime.end]).toEqual(['cut', { kind: 'stopped' }]);
  });

  test('a chute that dies ends the instance as failed', async () => {
    const { call, runtime } = await serving();
    expect((await call('/die')).statusCode).toBe(502);
    expect(await runtime.end).toEqual({ kind: 'failed', reason: 'the chute node exited with 7' });
  });

  test('the three series of the metrics carry chute, function and status', async () => {
    const { call, runtime } = await serving();
    await bodyOf(await call('/v1/x', { method: 'POST', body: '{}' }));
    const metrics = await bodyOf(await callInstance({ port: runtime.port, path: '/_metrics' }));
    const labels = 'chute_id="2b3a4c5d-0000-5000-8000-000000000001",function="v1/x"';
    expect(metrics).toContain(`invocation_total{${labels},status="200"} 1`);
    expect(metrics).toContain(`invocation_duration_count{${labels},status="200"} 1`);
    expect(metrics).toMatch(new RegExp(`invocation_last_timestamp\\{${labels}\\} 1[0-9]{9}`));
  });
});

describe('log server', () => {
  const ask = (runtime: TestRuntime, path: string, headers: Record<string, string> = {}) =>
    new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
      plainRequest({ host: '127.0.0.1', port: runtime.logPort, path, headers, agent: false }, resolve)
        .on('error', reject)
        .end();
    });
  const signed = () => validatorKey.minerHeaders(addresses, { purpose: 'chutes' });

  test('alive for everyone, the rest for the validator and the miner', async () => {
    const { runtime } = await serving();
    expect(await bodyOf(await ask(runtime, '/_alive'))).toBe('{"alive":true}');
    expect((await ask(runtime, '/logs')).statusCode).toBe(401);
    const list = JSON.parse(await bodyOf(await ask(runtime, '/logs', signed()))) as {
      logs: { name: string; path: string }[];
    };
    expect(list.logs).toEqual([expect.objectContaining({ name: 'current', path: '/tmp/_chute.log' })]);
    const own = miner.minerHeaders({ miner: addresses.miner, validator: addresses.miner }, { purpose: 'chutes' });
    expect((await ask(runtime, '/logs', own)).statusCode).toBe(200);
  });

  test('a stream begins with the backfill and goes on with what comes', async () => {
    const { runtime, call } = await serving();
    const res = await ask(runtime, '/logs/stream?backfill=1', signed());
    const events: unknown[] = [];
    const reading = (async () => {
      for await (const chunk of res)
        for (const part of String(chunk).split('\n\n'))
          if (part.startsWith('data: ')) events.push(JSON.parse(part.slice(6)));
    })().catch(() => {});
    await bodyOf(await call('/hello'));
    while (!JSON.stringify(events).includes('got GET /hello')) await new Promise((resolve) => setTimeout(resolve, 10));
    expect(events[0]).toEqual({ event: 'connected', filename: '_chute.log' });
    expect(events[1]).toEqual({ log: expect.stringContaining('canopy: launch') });
    expect(events.at(-1)).toEqual({ log: expect.stringMatching(/^\S+Z [0-9]+ node: got GET \/hello$/) });
    runtime.stop();
    await reading;
  });

  test('read answers the last lines with their count', async () => {
    const { runtime } = await serving();
    const res = await ask(runtime, '/logs/read/current?lines=2', signed());
    expect([res.statusCode, res.headers['x-filename'], res.headers['x-lines-returned']]).toEqual([
      200,
      '_chute.log',
      '2',
    ]);
    expect((await bodyOf(res)).trimEnd().split('\n')).toHaveLength(2);
    expect((await ask(runtime, '/logs/read/3', signed())).statusCode).toBe(404);
    expect((await ask(runtime, '/logs/read/..%2fx', signed())).statusCode).toBe(400);
    expect((await ask(runtime, '/logs/stream?backfill=10001', signed())).statusCode).toBe(400);
  });
});
