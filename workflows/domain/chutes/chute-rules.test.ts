import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ROLES } from '../auth/users.ts';
import { checkDeploy, type DeployRequest } from './check-deploy.ts';
import { nodeSelectorOf, type Cord } from './chute-definition.ts';
import { cordRefId } from './cord-ref-id.ts';
import {
  decideLaunch,
  MAX_OUTSTANDING_PER_MINER,
  MONOPOLY_HEAD_START_MS,
  STALLED_AFTER_MS,
  type Launch,
  type LaunchSituation,
} from './decide-launch.ts';
import { estimatedPrice } from './estimated-price.ts';
import {
  bountyAmount,
  noticeGapMs,
  planChute,
  planRollingUpdate,
  UPDATE_WINDOW_MS,
  type ChuteSituation,
  type RollingUpdate,
} from './plan-chute.ts';
import { slugOf } from './slug-of.ts';

const NOW = 10_000_000;
const launch = (over: Partial<Launch> = {}): Launch => ({
  minerHotkey: 'm1',
  version: 'v1',
  permittedAtMs: NOW,
  verified: false,
  active: false,
  removal: null,
  lot: 0.5,
  ...over,
});
const active = (over: Partial<Launch> = {}): Launch => launch({ active: true, verified: true, ...over });
const many = (count: number, over: (index: number) => Launch): Record<string, Launch> =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`i${index}`, over(index)]));
const asking = (over: Partial<LaunchSituation> = {}): LaunchSituation => ({
  nowMs: NOW,
  minerHotkey: 'me',
  version: 'v1',
  targetCount: 1,
  launches: {},
  permitted: null,
  wantingSinceMs: NOW,
  ...over,
});

test.each<[string, LaunchSituation, string]>([
  ['nothing runs', asking(), 'permitted'],
  ['nothing is wanted', asking({ targetCount: 0 }), 'stopped'],
  ['the only slot is promised', asking({ launches: { a: launch() } }), 'slots_promised'],
  [
    'the promise is stalled: a stand-in may come',
    asking({ launches: { a: launch({ permittedAtMs: NOW - STALLED_AFTER_MS }) } }),
    'permitted',
  ],
  [
    'three stalled and one stand-in is the end of it',
    asking({ launches: many(4, () => launch({ permittedAtMs: 0 })) }),
    'target_reached',
  ],
  ['a removed launch counts for nothing', asking({ launches: { a: launch({ removal: 'scaled_down' }) } }), 'permitted'],
  [
    'my outstanding launches are capped',
    asking({ targetCount: 9, launches: many(MAX_OUTSTANDING_PER_MINER, () => launch({ minerHotkey: 'me' })) }),
    'miner_cap',
  ],
  [
    'active ones do not count to the cap',
    asking({ targetCount: 9, launches: many(MAX_OUTSTANDING_PER_MINER, () => active({ minerHotkey: 'me' })) }),
    'permitted',
  ],
  [
    'rule 1: nothing serves, up to two above the target',
    asking({ targetCount: 2, launches: { old: launch({ version: 'v0' }) } }),
    'permitted',
  ],
  [
    'rule 2: an update, and no quota',
    asking({ launches: { a: active({ version: 'v0' }) }, permitted: { other: 1 } }),
    'update_quota',
  ],
  [
    'rule 2: an update, quota spent',
    asking({ launches: { a: active({ version: 'v0' }) }, permitted: { me: 0 } }),
    'update_quota',
  ],
  [
    'rule 2: an update with an empty map allows',
    asking({ launches: { a: active({ version: 'v0' }) }, permitted: {} }),
    'permitted',
  ],
  [
    'rule 2 is not asked far below the target',
    asking({ targetCount: 4, launches: { a: active({ version: 'v0' }) }, permitted: { other: 1 } }),
    'permitted',
  ],
  [
    'rule 3: at the target',
    asking({ targetCount: 2, launches: { a: active(), b: active({ version: 'v0' }) } }),
    'target_reached',
  ],
  [
    'rule 4: the last slots are for others',
    asking({ targetCount: 2, launches: { a: active({ minerHotkey: 'me' }) } }),
    'monopoly',
  ],
  [
    'rule 4 ends after the head start',
    asking({
      targetCount: 2,
      launches: { a: active({ minerHotkey: 'me' }) },
      wantingSinceMs: NOW - MONOPOLY_HEAD_START_MS,
    }),
    'permitted',
  ],
  [
    'rule 4 keeps nothing where no other miner could take it',
    asking({ targetCount: 2, launches: { a: active({ minerHotkey: 'me' }) }, rivals: 0 }),
    'permitted',
  ],
  [
    'rule 4 holds where another miner could take it',
    asking({ targetCount: 2, launches: { a: active({ minerHotkey: 'me' }) }, rivals: 1 }),
    'monopoly',
  ],
  ['rule 4 is for whoever holds all', asking({ targetCount: 2, launches: { a: active() } }), 'permitted'],
])('launch: %s', (_, situation, expected) => {
  const decision = decideLaunch(situation);
  expect(decision.kind === 'permitted' ? 'permitted' : decision.rule).toBe(expected);
});

test('a replacement launch spends one of the miner’s quota', () => {
  const launches = { a: active({ version: 'v0' }) };
  expect(decideLaunch(asking({ launches, permitted: { me: 2, other: 1 } }))).toEqual({
    kind: 'permitted',
    permitted: { me: 1, other: 1 },
  });
});

test('whoever asks in whatever order, fresh promises never pass the target', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 6 }),
      fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.boolean()), { maxLength: 30 }),
      (targetCount, asks) => {
        const launches: Record<string, Launch> = {};
        for (const [minerHotkey, becomesActive] of asks) {
          if (decideLaunch(asking({ targetCount, launches, minerHotkey })).kind !== 'permitted') continue;
          launches[`i${Object.keys(launches).length}`] = becomesActive
            ? active({ minerHotkey })
            : launch({ minerHotkey });
        }
        expect(Object.keys(launches).length).toBeLessThanOrEqual(targetCount);
      },
    ),
  );
});

const chute = (over: Partial<ChuteSituation> = {}): ChuteSituation => ({
  nowMs: NOW,
  version: 'v1',
  targetCount: 1,
  deleting: false,
  launches: {},
  rolling: null,
  wantingSinceMs: null,
  announcedAtMs: null,
  demanded: false,
  ...over,
});
const rolling = (over: Partial<RollingUpdate> = {}): RollingUpdate => ({
  oldVersion: 'v0',
  newVersion: 'v1',
  startedAtMs: NOW,
  gapMs: 300_000,
  nextNoticeAtMs: NOW,
  waiting: ['a'],
  permitted: { m1: 1 },
  ...over,
});

test.each<[string, ChuteSituation, unknown[], string]>([
  ['wants, never announced: now', chute(), [{ kind: 'announce', bounty: 100 }], 'wanting'],
  ['announced 29 s ago: not yet', chute({ wantingSinceMs: NOW - 29_000, announcedAtMs: NOW - 29_000 }), [], 'wanting'],
  [
    'announced 30 s ago: again, and more',
    chute({ wantingSinceMs: NOW - 30_000, announcedAtMs: NOW - 30_000 }),
    [{ kind: 'announce', bounty: 190 }],
    'wanting',
  ],
  [
    'demand shortens the wait',
    chute({ wantingSinceMs: NOW - 5_000, announcedAtMs: NOW - 5_000, demanded: true }),
    [{ kind: 'announce', bounty: 115 }],
    'wanting',
  ],
  ['a promise satisfies', chute({ launches: { a: launch() } }), [], 'satisfied'],
  [
    'a stalled promise does not',
    chute({ launches: { a: launch({ permittedAtMs: 0 }) } }),
    [{ kind: 'announce', bounty: 100 }],
    'wanting',
  ],
  [
    'above the target: what starts goes first',
    chute({ launches: { a: active({ lot: 0 }), b: launch({ lot: 1 }) } }),
    [{ kind: 'remove', instanceId: 'b', code: 'scaled_down' }],
    'scaling_down',
  ],
  [
    'then by lot, then by id',
    chute({ launches: { b: active({ lot: 0.1 }), a: active({ lot: 0.1 }), c: active({ lot: 0.2 }) } }),
    [
      { kind: 'remove', instanceId: 'a', code: 'scaled_down' },
      { kind: 'remove', instanceId: 'b', code: 'scaled_down' },
    ],
    'scaling_down',
  ],
  [
    'a stand-in stays until enough serve',
    chute({ launches: { a: launch({ permittedAtMs: 0 }), b: launch() } }),
    [],
    'satisfied',
  ],
  [
    'old versions end when no update runs',
    chute({ targetCount: 0, launches: { a: active({ version: 'v0' }) } }),
    [{ kind: 'remove', instanceId: 'a', code: 'old_version' }],
    'satisfied',
  ],
  [
    'an update tells the next, announces nothing',
    chute({ launches: { a: active({ version: 'v0' }) }, rolling: rolling() }),
    [{ kind: 'notify_update', instanceId: 'a' }],
    'updating',
  ],
  [
    'what only starts on the old version ends at once',
    chute({
      launches: { a: active({ version: 'v0' }), b: launch({ version: 'v0' }) },
      rolling: rolling({ waiting: [] }),
    }),
    [{ kind: 'remove', instanceId: 'b', code: 'old_version' }],
    'updating',
  ],
  [
    'the new version serves the target: the old ends',
    chute({ launches: { a: active({ version: 'v0' }), b: active() }, rolling: rolling() }),
    [{ kind: 'remove', instanceId: 'a', code: 'old_version' }, { kind: 'end_update' }],
    'updating',
  ],
  [
    'the window has passed: the old ends',
    chute({ launches: { a: active({ version: 'v0' }) }, rolling: rolling({ startedAtMs: NOW - UPDATE_WINDOW_MS }) }),
    [
      { kind: 'remove', instanceId: 'a', code: 'old_version' },
      { kind: 'end_update' },
      { kind: 'announce', bounty: 100 },
    ],
    'updating',
  ],
  [
    'deletion removes everything',
    chute({ deleting: true, launches: { a: active(), b: launch({ removal: 'scaled_down' }) } }),
    [{ kind: 'remove', instanceId: 'a', code: 'chute_deleted' }],
    'deleting',
  ],
])('plan: %s', (_, situation, steps, status) => expect(planChute(situation)).toMatchObject({ steps, status }));

test('bounty and notice gap keep their bounds', () => {
  expect([0, 999, 1000, 86_300_000 / 3, 1e12].map(bountyAmount)).toEqual([100, 100, 103, 86_398, 86_400]);
  expect([1, 9, 10, 2700, 5000].map(noticeGapMs)).toEqual([300_000, 300_000, 270_000, 1000, 1000]);
});

test('a rolling update counts each miner’s active instances and orders them by lot', () => {
  const launches = {
    a: active({ lot: 0.9 }),
    b: active({ lot: 0.1, minerHotkey: 'm2' }),
    c: active({ lot: 0.5 }),
    d: launch(),
    e: active({ version: 'v2' }),
  };
  expect(planRollingUpdate({ nowMs: 5, oldVersion: 'v1', newVersion: 'v2', launches })).toMatchObject({
    waiting: ['b', 'c', 'a'],
    permitted: { m1: 2, m2: 1 },
    gapMs: 300_000,
  });
  expect(planRollingUpdate({ nowMs: 5, oldVersion: 'v1', newVersion: 'v2', launches: { d: launch() } })).toBeNull();
});

const deploy = (over: Partial<DeployRequest> = {}): DeployRequest => ({
  mode: 'production',
  username: 'ada',
  permissionsBitmask: ROLES.free_account.value,
  operationsLastDay: 0,
  balanceMicroUsd: 0,
  acceptFee: false,
  public: false,
  version: 'v',
  nodeSelector: { gpu_count: 2, min_vram_gb_per_gpu: 80, include: ['h100'], exclude: null },
  standardTemplate: null,
  revision: null,
  image: { status: 'built and pushed', public: false, chutesVersion: '0.6.9' },
  deployed: null,
  cordCount: 1,
  jobCount: 0,
  code: 'x',
  ...over,
});
const FEE = 3 * 2 * 1_790_000;
test.each<[string, DeployRequest, string | number]>([
  ['a free user pays nothing', deploy(), 0],
  ['development costs nothing', deploy({ mode: 'development', permissionsBitmask: 0 }), 0],
  ['three hours of both GPUs', deploy({ permissionsBitmask: 0, acceptFee: true, balanceMicroUsd: FEE + 1 }), FEE],
  ['the fee must be accepted', deploy({ permissionsBitmask: 0, balanceMicroUsd: FEE + 1 }), 'balance.insufficient'],
  ['and covered', deploy({ permissionsBitmask: 0, acceptFee: true, balanceMicroUsd: FEE }), 'balance.insufficient'],
  [
    'an update has no fee',
    deploy({ permissionsBitmask: 0, deployed: { version: 'u', public: false }, balanceMicroUsd: 1 }),
    0,
  ],
  ['24 operations are the day’s', deploy({ operationsLastDay: 24 }), 'rate.limited'],
  ['unless unlimited', deploy({ operationsLastDay: 24, permissionsBitmask: ROLES.unlimited_dev.value }), 0],
  ['public needs the role', deploy({ public: true }), 'request.invalid'],
  ['no such image', deploy({ image: null }), 'request.invalid'],
  [
    'an image not built',
    deploy({ image: { status: 'building', public: true, chutesVersion: '0.6.9' } }),
    'request.invalid',
  ],
  [
    'a public chute on a private image',
    deploy({ public: true, permissionsBitmask: ROLES.public_model_deployment.value | ROLES.free_account.value }),
    'resource.conflict',
  ],
  ['the same version again', deploy({ deployed: { version: 'v', public: false } }), 'resource.conflict'],
  ['the rate limit comes first', deploy({ operationsLastDay: 24, image: null }), 'rate.limited'],
  [
    'no GPU fits',
    deploy({ nodeSelector: { gpu_count: 1, min_vram_gb_per_gpu: 140, include: ['l4'], exclude: null } }),
    'request.invalid',
  ],
  ['vllm needs a revision', deploy({ standardTemplate: 'vllm' }), 'request.invalid'],
  [
    'an SDK that is too old',
    deploy({ image: { status: 'built and pushed', public: false, chutesVersion: '0.3.30' } }),
    'request.invalid',
  ],
  ['the oldest SDK', deploy({ image: { status: 'built and pushed', public: false, chutesVersion: '0.3.31' } }), 0],
  ['no code', deploy({ code: ' \n' }), 'request.invalid'],
  ['neither cords nor jobs', deploy({ cordCount: 0 }), 'request.invalid'],
  ['both', deploy({ jobCount: 1 }), 'request.invalid'],
])('deploy: %s', (_, request, expected) => {
  const verdict = checkDeploy(request);
  expect(verdict.kind === 'accepted' ? verdict.feeMicroUsd : verdict.code).toBe(expected);
});

test.each([
  ['Ada', 'Org/My_Model v1.5', 'ada-org-my-model-v1-5'],
  ['ada', 'Ünïcode--x', 'ada-unicode-x'],
  ['ada', 'x'.repeat(80), `ada-${'x'.repeat(54)}`],
  ['ada', `${'x'.repeat(53)}//y`, `ada-${'x'.repeat(53)}`],
])('slug of %s and %s', (username, name, slug) => expect(slugOf(username, name)).toBe(slug));

test('equal vllm cords share one reference, whatever the chute’s name; other templates do not', () => {
  const cords = (name: string): Cord[] => [
    {
      method: 'POST',
      path: '/chat',
      function: 'chat',
      stream: false,
      passthrough: true,
      public_api_path: '/v1/chat/completions',
      public_api_method: 'POST',
      input_schema: { properties: { model: { default: name } } },
      output_schema: {},
      minimal_input_schema: {},
      output_content_type: null,
    },
  ];
  expect(cordRefId(cords('one'), 'vllm', 'one')).toBe(cordRefId(cords('two'), 'vllm', 'two'));
  expect(cordRefId(cords('one'), null, 'one')).not.toBe(cordRefId(cords('two'), null, 'two'));
});

test('the stored selector is read with lower-case refs and integer prices', () => {
  expect(
    nodeSelectorOf({
      gpu_count: 1,
      min_vram_gb_per_gpu: 16,
      include: ['H100'],
      exclude: null,
      max_hourly_price_per_gpu: 1.1,
    }),
  ).toMatchObject({
    include: ['h100'],
    exclude: null,
    maxHourlyPricePerGpuMicroUsd: 1_100_000,
  });
});

test('price: per hour, per second, per million tokens; no price without a GPU', () => {
  const nodeSelector = { gpu_count: 2, min_vram_gb_per_gpu: 16, include: ['h200'], exclude: null };
  expect(estimatedPrice({ nodeSelector, standardTemplate: 'vllm', discount: 0 })).toEqual({
    usd: { hour: 5.5, second: 5.5 / 3600 },
    tao: { hour: null, second: null },
    per_million_tokens: { input: { usd: 0.07, tao: null }, output: { usd: 0.3, tao: null } },
  });
  expect(estimatedPrice({ nodeSelector, standardTemplate: null, discount: 0.5 })?.usd.hour).toBe(2.75);
  expect(
    estimatedPrice({ nodeSelector: { ...nodeSelector, include: [] }, standardTemplate: null, discount: 0 }),
  ).toBeNull();
});
