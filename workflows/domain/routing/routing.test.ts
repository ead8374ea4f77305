import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { chooseInstance, MAX_ATTEMPTS, pauseMs, type Candidate } from './choose-instance.ts';
import { decideTarget } from './host-target.ts';
import { judgeAnswer } from './judge-answer.ts';
import { resolveDirect, resolveModel } from './resolve-chute.ts';
import { resolveCord, upstreamPath } from './resolve-cord.ts';
import type { RoutedChute, RoutedCord } from './routed.ts';

const isSlug = (label: string): boolean => label === 'alice-bot';

test.each([
  ['api.net.test', 'GET', '/users/me', { kind: 'api' }],
  ['alice-bot.net.test', 'GET', '/ping', { kind: 'api' }],
  ['ALICE-BOT.net.test:8000', 'PUT', '/v1/x', { kind: 'chute', slug: 'alice-bot' }],
  ['alice-bot', 'GET', '/v1/models', { kind: 'aggregator', aggregator: 'llm' }],
  ['unknown-bot.net.test', 'POST', '/generate', { kind: 'api' }],
  ['llm.net.test', 'GET', '/v1/models', { kind: 'aggregator', aggregator: 'llm' }],
  ['llm.net.test', 'GET', '/chutes/', { kind: 'api' }],
  ['llm.net.test', 'POST', '/tokenize', { kind: 'aggregator', aggregator: 'llm' }],
  ['embed.net.test', 'POST', '/v1/embeddings', { kind: 'aggregator', aggregator: 'embed' }],
  ['image.net.test', 'GET', '/generate', { kind: 'api' }],
  ['image.net.test', 'POST', '/generate', { kind: 'aggregator', aggregator: 'image' }],
  ['127.0.0.1:8000', 'POST', '/v1/chat/completions', { kind: 'aggregator', aggregator: 'llm' }],
  ['localhost:8000', 'GET', '/v1/models', { kind: 'aggregator', aggregator: 'llm' }],
  ['localhost', 'POST', '/chutes/', { kind: 'api' }],
  ['localhost', 'POST', '/chutes/share', { kind: 'api' }],
  ['localhost', 'POST', '/chutes/bot/generate', { kind: 'direct', segments: ['bot', 'generate'] }],
  ['localhost', 'PUT', '/chutes/bot/generate', { kind: 'api' }],
  ['localhost', 'DELETE', '/chutes/bot/generate', { kind: 'api' }],
  ['localhost', 'POST', '/chutes/bot/', { kind: 'api' }],
  ['localhost', 'POST', '/chutes/warmup/bot', { kind: 'api' }],
  ['localhost', 'GET', '/socket.io/', { kind: 'sockets' }],
  ['localhost', 'GET', '/events/socket.io/', { kind: 'sockets' }],
  ['localhost', 'GET', '/socket.iox', { kind: 'api' }],
  ['ws.net.test', 'GET', '/', { kind: 'sockets' }],
  ['localhost', 'GET', '/_gateway/health', { kind: 'own' }],
  ['', 'GET', '/', { kind: 'api' }],
])('%s %s %s', (host, method, path, target) => {
  expect(decideTarget({ host, method, path, isUpgrade: false }, isSlug)).toEqual(target);
});

const chute = (over: Partial<RoutedChute> = {}): RoutedChute => ({
  chuteId: '00000000-0000-4000-8000-000000000001',
  ownerId: 'alice',
  ownerName: 'alice',
  ownerPermissions: 0,
  name: 'bot',
  slug: 'alice-bot',
  isPublic: true,
  template: 'vllm',
  cords: [],
  concurrency: 1,
  discount: 0,
  disabled: false,
  imageId: 'i',
  imageOwnerId: 'alice',
  hourlyMicroUsd: 400_000,
  invocationCount: 0,
  createdAtMs: 1,
  ...over,
});

describe('a model name', () => {
  const mine = chute({
    chuteId: '00000000-0000-4000-8000-000000000002',
    ownerId: 'me',
    ownerName: 'me',
    createdAtMs: 9,
  });
  const official = chute({
    chuteId: '00000000-0000-4000-8000-000000000003',
    ownerId: 'o',
    ownerName: 'chutes',
    createdAtMs: 10,
  });
  const slashed = chute({ chuteId: '00000000-0000-4000-8000-000000000004', name: 'org/bot-7b' });
  const resolve = (
    model: string,
    chutes: RoutedChute[],
    over: { templates?: string[] | null; canSee?: (chute: RoutedChute) => boolean } = {},
  ) => ({
    callerId: 'me',
    templates: ['vllm'],
    canSee: () => true,
    ...over,
    chutes: {
      byId: (id: string) => chutes.find(({ chuteId }) => chuteId === id) ?? null,
      byName: (name: string) => chutes.filter((one) => one.name === name),
    },
    model,
  });
  const found = (...args: Parameters<typeof resolve>): string | null => {
    const { model, ...options } = resolve(...args);
    return resolveModel(model, options)?.chuteId ?? null;
  };

  test('means the official chute, then the own one, then the oldest, in whatever order they are loaded', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray([chute(), mine, official], { minLength: 1 }), (chutes) => {
        const expected = chutes.includes(official) ? official : chutes.includes(mine) ? mine : chute();
        expect(found('bot', chutes)).toBe(expected.chuteId);
      }),
    );
  });
  test('by id, by exact name, never by another template or what the caller cannot see', () => {
    expect(found(mine.chuteId.toUpperCase(), [mine])).toBe(mine.chuteId);
    expect(found('BOT', [mine])).toBeNull();
    expect(found('bot', [mine], { templates: ['embedding'] })).toBeNull();
    expect(found('bot', [official, mine], { canSee: (one) => one !== official })).toBe(mine.chuteId);
  });
  test.each([
    [['bot', 'generate'], mine.chuteId, '/generate'],
    [['me', 'bot', 'a', 'b'], mine.chuteId, '/a/b'],
    [['org', 'bot-7b', 'x'], slashed.chuteId, '/x'],
    [['alice', 'org', 'bot-7b', 'x'], slashed.chuteId, '/x'],
    [['nobody', 'bot', 'x'], null, null],
  ])('after /chutes/: %j', (segments, chuteId, path) => {
    const { model: _model, ...options } = resolve('', [mine, slashed], { templates: null });
    const direct = resolveDirect(segments, options);
    expect([direct?.chute.chuteId ?? null, direct?.path ?? null]).toEqual([chuteId, path]);
  });
});

test('two cords of one path are told apart by stream on vllm chutes; `stream` missing is false', () => {
  const cord = (over: Partial<RoutedCord>): RoutedCord => ({
    method: 'POST',
    path: '/chat',
    function: 'chat',
    stream: false,
    passthrough: true,
    publicPath: '/v1/chat/completions',
    publicMethod: 'POST',
    outputContentType: null,
    ...over,
  });
  const [whole, streamed, plain] = [
    cord({}),
    cord({ path: '/chat_stream', stream: true }),
    cord({ path: '/run', publicPath: null, method: 'GET', publicMethod: 'GET' }),
  ];
  const on = (
    over: Partial<RoutedChute>,
    request: { method?: string; path: string; stream?: boolean; isDirect?: boolean },
  ) =>
    resolveCord(chute({ cords: [whole, streamed, plain], ...over }), {
      method: 'POST',
      stream: false,
      isDirect: false,
      ...request,
    });
  expect(on({}, { path: '/v1/chat/completions' })).toBe(whole);
  expect(on({}, { path: '/v1/chat/completions', stream: true })).toBe(streamed);
  expect(on({ cords: [whole] }, { path: '/v1/chat/completions', stream: true })).toBeNull();
  expect(on({ cords: [whole], template: null }, { path: '/v1/chat/completions', stream: true })).toBe(whole);
  expect(on({}, { path: '/v1/chat/completions', method: 'GET' })).toBeNull();
  expect(on({}, { path: '/run' })).toBeNull();
  expect(on({}, { path: '/run', isDirect: true })).toBe(plain);
  expect([upstreamPath(whole), upstreamPath(plain)]).toEqual(['/v1/chat/completions', '/run']);
});

describe('the choice of an instance', () => {
  const candidate = (instanceId: string, inFlight = 0, pausedUntilMs = 0): Candidate => ({
    instanceId,
    inFlight,
    pausedUntilMs,
  });
  const choose = (candidates: Candidate[], over: Partial<Parameters<typeof chooseInstance>[1]> = {}) =>
    chooseInstance(candidates, { tried: new Set(), concurrency: 4, nowMs: 1000, random: [0, 0], ...over });

  test.each([
    ['nobody', [], {}, { kind: 'none' }],
    ['the less loaded of two', [candidate('a', 3), candidate('b', 1)], {}, { kind: 'chosen', instanceId: 'b' }],
    ['nobody has room', [candidate('a', 4), candidate('b', 9)], {}, { kind: 'full' }],
    ['all tried', [candidate('a')], { tried: new Set(['a']) }, { kind: 'exhausted' }],
    [
      'tried are left out',
      [candidate('a'), candidate('b', 3)],
      { tried: new Set(['a']) },
      { kind: 'chosen', instanceId: 'b' },
    ],
    ['paused are left out', [candidate('a', 0, 2000), candidate('b', 3)], {}, { kind: 'chosen', instanceId: 'b' }],
    ['the only one is taken though paused', [candidate('a', 0, 2000)], {}, { kind: 'chosen', instanceId: 'a' }],
    [
      'of paused ones that wakes first',
      [candidate('a', 0, 3000), candidate('b', 0, 2000)],
      {},
      { kind: 'chosen', instanceId: 'b' },
    ],
  ])('%s', (_name, candidates, over, expected) => {
    expect(choose(candidates, over)).toEqual(expected);
  });
  test('never a full or tried one, never past five attempts', () => {
    const loads = fc.array(fc.record({ inFlight: fc.nat(6), pausedUntilMs: fc.nat(2000) }), { maxLength: 12 });
    fc.assert(
      fc.property(
        loads,
        fc.nat(7),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (all, triedCount, r1, r2) => {
          const candidates = all.map((one, index) => ({ instanceId: String(index), ...one }));
          const tried = new Set(candidates.slice(0, triedCount).map(({ instanceId }) => instanceId));
          const choice = choose(candidates, { tried, random: [r1, r2] });
          if (choice.kind !== 'chosen') return;
          const chosen = candidates.find(({ instanceId }) => instanceId === choice.instanceId);
          expect(tried.has(choice.instanceId)).toBe(false);
          expect(chosen?.inFlight).toBeLessThan(4);
          expect(tried.size).toBeLessThan(MAX_ATTEMPTS);
        },
      ),
    );
  });
  test('pauses grow to a minute', () => {
    expect([0, 1, 2, 3, 8, 100].map(pauseMs)).toEqual([0, 500, 1000, 2000, 60_000, 60_000]);
  });
});

const relayed = (error: string | null) => ({ kind: 'relay', error });
const blamed = (status: number) => ({ kind: 'next', error: `instance answered ${status}`, blamed: true });
test.each([
  ['chute', 200, relayed(null)],
  ['chute', 302, relayed(null)],
  ['chute', 400, relayed('BAD_REQUEST')],
  ['chute', 401, relayed('BAD_REQUEST')],
  ['chute', 404, relayed('BAD_REQUEST')],
  ['chute', 408, relayed('BAD_REQUEST')],
  ['chute', 426, relayed('BAD_REQUEST')],
  ['chute', 429, relayed('BAD_REQUEST')],
  ['chute', 500, blamed(500)],
  ['chute', 503, blamed(503)],
  ['chute', 199, blamed(199)],
  ['runtime', 429, { kind: 'next', error: 'RATE_LIMIT', blamed: false }],
  ['runtime', 401, blamed(401)],
  ['runtime', 404, blamed(404)],
  ['runtime', 502, blamed(502)],
  ['runtime', 503, blamed(503)],
])('a %s that answers %i', (by, status, verdict) => {
  expect(judgeAnswer(status, by === 'runtime')).toEqual(verdict);
});
