import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ApplicationFailure } from '@temporalio/common';
import { WorkflowUpdateStage, type WorkflowHandleWithFirstExecutionRunId } from '@temporalio/client';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import type { InstanceActivities, Sight } from '../../../activities/validator/instances/instance-activities.ts';
import { refusalOf } from '../../../api/http/errors.ts';
import { workflowBundle } from '../../../workers/bundle.ts';
import { toldFacts, type chuteRecorder } from '../../../workers/testing/instance-workflows.ts';
import { createTimeSkippingEnvironment } from '../../../workers/testing/workflow-environment.ts';
import { PROFILES } from '../../domain/proof/profiles.ts';
import {
  openingsKey,
  type OpeningsActivities,
  type ProofSession,
  type ProofSessionActivities,
  type ProofVerificationActivities,
} from '../../domain/proof/plugin.ts';
import { chuteWorkflowId, instanceWorkflowId } from '../../ids.ts';
import { TASK_QUEUES } from '../../task-queues.ts';
import type { instanceLifecycle } from './instance-lifecycle.ts';
import {
  activateInstance,
  announceOpenings,
  claimInstance,
  instanceStatus,
  removeInstance,
  requestRemoval,
  submitCommit,
  submitProof,
  submitWalk,
  type ClaimInput,
} from './messages.ts';

type Activities = InstanceActivities & ProofSessionActivities & ProofVerificationActivities & OpeningsActivities;
type Forgotten = Parameters<InstanceActivities['forgetInstance']>[0];

const GPU = 'a'.repeat(32);
const MINUTE = 60_000;
const deadlines = {
  claimMs: 120 * MINUTE,
  proofMs: 150_000,
  activationMs: 90 * MINUTE,
  probeIntervalMs: 30_000,
  silenceGraceMs: 120_000,
};
const session = (over: Partial<ProofSession> = {}): ProofSession => ({
  plugin: 'simulated',
  challenges: [
    {
      binding: {
        validatorNonce: '00',
        configId: 'c',
        minerHotkey: 'm',
        gpuUuid: GPU,
        gpuType: 'h100',
        vramBytes: 1,
        transportPublicKey: '11',
      },
      profile: PROFILES['cpu-dev'],
    },
  ],
  deadlineMs: 100_000,
  roots: null,
  nonce2: null,
  walks: null,
  samples: null,
  ...over,
});
const claim = (over: Partial<ClaimInput> = {}): ClaimInput => ({
  gpus: [{ uuid: GPU, name: 'NVIDIA H100', memory: 1, clock_rate: 1 }],
  host: 'h',
  portMappings: [],
  transport: 'canopy/1',
  tlsCertPem: null,
  transportPublicKey: '11',
  receivedAtMs: Date.now(),
  ...over,
});
const samples = { [GPU]: { fill: [], walk: [] } };
const openings = { [GPU]: { key: 'k', sha256: 's' } };

let env: TestWorkflowEnvironment;
let workers: Worker[] = [];
let running: Promise<unknown>;
/** Of the test that runs now. */
let current: Activities = outside().activities;

beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  env = await createTimeSkippingEnvironment();
  const entry = join(import.meta.dirname, '../../../workers/testing/instance-workflows.ts');
  const bundle = await workflowBundle(entry, join(import.meta.dirname, '../../../.canopy/test-bundles'));
  const names = Object.keys(current) as (keyof Activities)[];
  const late = Object.fromEntries(names.map((name) => [name, (input: never) => current[name](input)]));
  const connection = env.nativeConnection;
  workers = [
    await Worker.create({ connection, taskQueue: TASK_QUEUES.validator, workflowBundle: bundle, activities: late }),
    await Worker.create({ connection, taskQueue: TASK_QUEUES.gpu, activities: late }),
  ];
  running = Promise.all(workers.map((worker) => worker.run()));
});
afterAll(async () => {
  for (const worker of workers) worker.shutdown();
  await running;
  await env.teardown();
});

/** What the outside did: everything succeeds, and an active instance falls silent, unless a test says otherwise. */
function outside(over: Partial<Activities> = {}) {
  const forgotten: Forgotten[] = [];
  const routable: boolean[] = [];
  const activities: Activities = {
    claimLaunch: async () => ({
      kind: 'claimed',
      plugin: 'simulated',
      gpus: [{ uuid: GPU, gpuType: 'h100', vramBytes: 1 }],
    }),
    beginProof: async () => session(),
    acceptCommit: async ({ session: now, roots }) => ({ ...now, roots, nonce2: '22' }),
    acceptWalk: async ({ session: now, walks }) => ({ ...now, walks, samples }),
    verifyProof: async () => ({
      verified: true,
      trustLevel: 'simulated',
      verdicts: [{ gpuUuid: GPU, verified: true, samplesChecked: 32 }],
    }),
    dropOpenings: async () => {},
    gpusInSweep: async () => [],
    recordVerified: async () => ({ verifiedAtMs: 1_000 }),
    recordActive: async () => ({ kind: 'active', activatedAtMs: 2_000 }),
    stopRouting: async () => ({ wasRoutable: true }),
    setRoutable: async ({ isRoutable }) => void routable.push(isRoutable),
    forgetInstance: async (input) => void forgotten.push(input),
    probeInstance: async () => ({ kind: 'unseen', detail: 'ECONNREFUSED', consecutiveFailures: 0 }),
    ...over,
  };
  return { activities, forgotten, routable };
}

type Handle = WorkflowHandleWithFirstExecutionRunId<typeof instanceLifecycle>;
interface Launch {
  handle: Handle;
  told: () => Promise<{ status: string; code: string | null }[]>;
}

async function withLaunch<T>(
  activities: Activities,
  run: (launch: Launch) => Promise<T>,
  drainMs?: number,
): Promise<T> {
  current = activities;
  const [instanceId, configId, chuteId] = [randomUUID(), randomUUID(), randomUUID()];
  const taskQueue = TASK_QUEUES.validator;
  const chute = await env.client.workflow.start<typeof chuteRecorder>('chuteRecorder', {
    taskQueue,
    workflowId: chuteWorkflowId(chuteId),
  });
  const permittedAtMs = await env.currentTimeMs();
  const handle = await env.client.workflow.start<typeof instanceLifecycle>('instanceLifecycle', {
    taskQueue,
    workflowId: instanceWorkflowId(instanceId),
    args: [
      {
        instanceId,
        configId,
        chuteId,
        chuteVersion: 'v',
        minerHotkey: 'miner',
        permittedAtMs,
        deadlines: drainMs === undefined ? deadlines : { ...deadlines, drainMs },
      },
    ],
  });
  try {
    return await run({ handle, told: () => chute.query(toldFacts) });
  } finally {
    await chute.terminate().catch(() => {});
    await handle.terminate().catch(() => {}); // most have ended
  }
}

const commit = { roots: { [GPU]: 'r' }, receivedAtMs: Date.now() };
const walk = { walks: { [GPU]: { digest: 'd', trace_root: 't' } }, receivedAtMs: Date.now() };
const proof = { openings, receivedAtMs: Date.now() };
const claimed = (handle: Handle) => handle.executeUpdate(claimInstance, { args: [claim()] });
async function walked(handle: Handle): Promise<void> {
  await claimed(handle);
  await handle.executeUpdate(submitCommit, { args: [commit] });
  await handle.executeUpdate(submitWalk, { args: [walk] });
}
async function verified(handle: Handle): Promise<void> {
  await walked(handle);
  await handle.executeUpdate(submitProof, { args: [proof] });
}
async function active(handle: Handle): Promise<void> {
  await verified(handle);
  await handle.executeUpdate(activateInstance, { args: [] });
}
const codeOf = (update: Promise<unknown>): Promise<string | null> =>
  update.then(
    () => null,
    (err: unknown) => refusalOf(err)?.code ?? String(err),
  );
const refuses = async (update: Promise<unknown>): Promise<unknown> =>
  update.then(
    () => expect('an answer').toBe('a refusal'),
    () => null,
  );
/** A claim that waits: time is skipped once it is with the workflow, not before. */
async function claimedIn(handle: Handle, ms: number): Promise<unknown> {
  const options = { args: [claim()] as [ClaimInput], waitForStage: WorkflowUpdateStage.ACCEPTED };
  const asked = await handle.startUpdate(claimInstance, options);
  await env.sleep(ms);
  return asked.result();
}
const boom = async (): Promise<never> => {
  throw ApplicationFailure.nonRetryable('boom');
};

// Row 2 of what must hold: every deadline ends in a recorded removal, its code told to the chute.
test.each<[string, string, Partial<Activities>, (handle: Handle) => Promise<unknown>]>([
  ['no claim', 'claim_timeout', {}, async () => {}],
  ['no proof', 'proof_timeout', {}, claimed],
  ['no openings after the walk', 'proof_timeout', {}, walked],
  [
    'a wrong proof',
    'proof_wrong',
    { verifyProof: async () => ({ verified: false, reason: 'fill', verdicts: [] }) },
    (handle) => refuses(verified(handle)),
  ],
  [
    'a commitment that is not one',
    'proof_wrong',
    {
      acceptCommit: async () => {
        throw ApplicationFailure.nonRetryable('missing root', 'proof.refused');
      },
    },
    async (handle) => {
      await claimed(handle);
      await refuses(handle.executeUpdate(submitCommit, { args: [commit] }));
    },
  ],
  [
    'a fill past its limit',
    'proof_late',
    {
      acceptCommit: async () => {
        throw ApplicationFailure.nonRetryable('too slow', 'proof.refused');
      },
    },
    async (handle) => {
      await claimed(handle);
      await refuses(
        handle.executeUpdate(submitCommit, {
          args: [{ ...commit, receivedAtMs: (await env.currentTimeMs()) + 40_000 }],
        }),
      );
    },
  ],
  [
    'a late proof',
    'proof_late',
    {},
    async (handle) => {
      await walked(handle);
      await refuses(
        handle.executeUpdate(submitProof, {
          args: [{ ...proof, receivedAtMs: (await env.currentTimeMs()) + 101_000 }],
        }),
      );
    },
  ],
  ['no activation', 'activation_timeout', {}, verified],
  [
    'a chute at its target',
    'target_reached',
    {
      recordActive: async () => ({ kind: 'at_target', activeCount: 1, targetCount: 1 }),
    },
    (handle) => refuses(active(handle)),
  ],
  ['silence', 'silent', {}, active],
  [
    'seven failed requests in a row',
    'consecutive_failures',
    { probeInstance: async () => ({ kind: 'serving', consecutiveFailures: 7 }) },
    active,
  ],
  [
    'GPUs that do not fit',
    'claim_refused',
    {
      claimLaunch: async () => ({ kind: 'refused', code: 'request.invalid', detail: 'no', removal: 'claim_refused' }),
    },
    (handle) => refuses(claimed(handle)),
  ],
])('%s ends in %s, its GPUs freed and the chute told', async (_, code, over, act) => {
  const { activities, forgotten } = outside(over);
  await withLaunch(activities, async ({ handle, told }) => {
    await act(handle);
    expect(await handle.result()).toBe(code);
    expect(forgotten).toEqual([
      expect.objectContaining({ code, evidence: expect.objectContaining({ status: expect.any(String) }) }),
    ]);
    expect((await told()).at(-1)).toMatchObject({ status: 'gone', code });
  });
});

test('a launch goes through its states, tells the chute, and carries the proof’s summary to the row', async () => {
  const summaries: unknown[] = [];
  const { activities } = outside({
    recordVerified: async ({ summary }) => {
      summaries.push(summary);
      return { verifiedAtMs: 1_000 };
    },
  });
  await withLaunch(activities, async ({ handle, told }) => {
    const status = async () => (await handle.query(instanceStatus)).status;
    expect(await status()).toBe('permitted');
    expect((await claimed(handle)).session.challenges).toHaveLength(1);
    expect(await status()).toBe('claimed');
    expect(await handle.executeUpdate(submitCommit, { args: [commit] })).toEqual({ nonce2: '22' });
    expect(await handle.executeUpdate(submitWalk, { args: [walk] })).toEqual({ samples });
    expect(await handle.executeUpdate(submitProof, { args: [proof] })).toEqual({
      verifiedAt: '1970-01-01T00:00:01.000Z',
    });
    expect(await status()).toBe('verified');
    expect(await handle.executeUpdate(activateInstance, { args: [] })).toEqual({
      activatedAt: '1970-01-01T00:00:02.000Z',
    });
    expect(await handle.executeUpdate(activateInstance, { args: [] })).toEqual({
      activatedAt: '1970-01-01T00:00:02.000Z',
    });
    expect(await status()).toBe('active');
    expect(summaries).toEqual([
      expect.objectContaining({ trustLevel: 'simulated', gpus: [expect.objectContaining({ samplesChecked: 32 })] }),
    ]);
    expect(await handle.executeUpdate(removeInstance, { args: [{ code: 'miner_requested' }] })).toEqual({
      code: 'miner_requested',
    });
    expect((await told()).map(({ status: each }) => each)).toEqual(['verified', 'active', 'gone']);
    expect(await handle.result()).toBe('miner_requested');
  });
});

test('with plug-in none commit and walk are skipped', async () => {
  const { activities } = outside({ beginProof: async () => session({ plugin: 'none', challenges: [] }) });
  await withLaunch(activities, async ({ handle }) => {
    await claimed(handle);
    expect(await codeOf(handle.executeUpdate(submitCommit, { args: [commit] }))).toBe('proof.not_awaited');
    await handle.executeUpdate(submitProof, { args: [{ openings: null, receivedAtMs: Date.now() }] });
    expect((await handle.query(instanceStatus)).status).toBe('verified');
  });
});

test('a step out of its order is refused, and the same step again gets the first answer', async () => {
  let claims = 0;
  const { activities } = outside({
    claimLaunch: async () => {
      claims += 1;
      return { kind: 'claimed', plugin: 'simulated', gpus: [] };
    },
  });
  await withLaunch(activities, async ({ handle }) => {
    expect(await codeOf(handle.executeUpdate(submitProof, { args: [proof] }))).toBe('proof.not_awaited');
    expect(await codeOf(handle.executeUpdate(activateInstance, { args: [] }))).toBe('auth.forbidden');
    const once = claim({ receivedAtMs: 1 });
    await Promise.all(
      [1, 2].map((receivedAtMs) => handle.executeUpdate(claimInstance, { args: [{ ...once, receivedAtMs }] })),
    );
    await handle.executeUpdate(claimInstance, { args: [once] });
    expect(claims).toBe(1);
    expect(await codeOf(handle.executeUpdate(claimInstance, { args: [claim({ host: 'another' })] }))).toBe(
      'auth.unauthorized',
    );
    expect(await codeOf(handle.executeUpdate(submitWalk, { args: [walk] }))).toBe('proof.not_awaited');
  });
});

test('openings are announced after the walk, of a GPU of the launch, one content each', async () => {
  const { activities } = outside();
  await withLaunch(activities, async ({ handle }) => {
    const announce = (sha256: string, gpuUuid = GPU) =>
      codeOf(handle.executeUpdate(announceOpenings, { args: [{ gpuUuid, sha256 }] }));
    expect(await announce('one')).toBe('proof.not_awaited');
    await walked(handle);
    expect(await announce('one', 'b'.repeat(32))).toBe('resource.not_found');
    const both = await Promise.all([announce('one'), announce('two')]);
    expect(both).toEqual(expect.arrayContaining([null, 'resource.conflict']));
    const [kept] = Object.values((await handle.query(instanceStatus)).openings ?? {});
    expect(await announce(kept ?? '')).toBeNull();
    await handle.executeUpdate(submitProof, { args: [proof] });
    expect(await announce(kept ?? '')).toBeNull();
    expect(await announce('three')).toBe('proof.not_awaited');
  });
});

test('a proof that cannot be begun for these GPUs is the claim’s refusal, with its text, and no fault of ours', async () => {
  const { activities, forgotten } = outside({
    beginProof: async () => {
      throw ApplicationFailure.nonRetryable('no profile for GPU type x', 'request.invalid');
    },
  });
  await withLaunch(activities, async ({ handle }) => {
    expect(await codeOf(claimed(handle))).toBe('request.invalid');
    expect(await handle.result()).toBe('claim_refused');
    expect(forgotten).toEqual([
      expect.objectContaining({ evidence: expect.objectContaining({ refused: 'no profile for GPU type x' }) }),
    ]);
  });
});

test('a type whose own limits are longer than the network’s deadline has that long', async () => {
  const own = { plugin: 'povw' as const, deadlineMs: deadlines.proofMs + 60_000 };
  const { activities } = outside({ beginProof: async () => session(own) });
  await withLaunch(activities, async ({ handle }) => {
    await walked(handle);
    await env.sleep(deadlines.proofMs + 30_000);
    await handle.executeUpdate(submitProof, {
      args: [{ ...proof, receivedAtMs: await env.currentTimeMs() }],
    });
    expect((await handle.query(instanceStatus)).status).toBe('verified');
  });
});

test('a claim refused before the GPUs were looked at leaves the permission usable', async () => {
  const answers = [{ kind: 'refused', code: 'launch.not_scalable', detail: 'full', removal: null }] as const;
  let asked = 0;
  const { activities, forgotten } = outside({
    claimLaunch: async () => answers[asked++] ?? { kind: 'claimed', plugin: 'simulated', gpus: [] },
  });
  await withLaunch(activities, async ({ handle }) => {
    expect(await codeOf(claimed(handle))).toBe('launch.not_scalable');
    await claimed(handle);
    expect(forgotten).toEqual([]);
  });
});

test('a claim waits for the sweep that holds its GPU by small looks, and is answered by the same request', async () => {
  let claims = 0;
  const looks: string[][] = [];
  const { activities, forgotten } = outside({
    claimLaunch: async () =>
      ++claims < 3 ? { kind: 'awaiting', gpuUuids: [GPU] } : { kind: 'claimed', plugin: 'simulated', gpus: [] },
    gpusInSweep: async ({ gpuUuids }) => {
      looks.push(gpuUuids);
      return looks.length % 4 === 0 ? [] : gpuUuids;
    },
  });
  await withLaunch(activities, async ({ handle }) => {
    await claimedIn(handle, 60_000);
    // another sweep took the GPU before the second try
    expect([claims, looks]).toEqual([3, Array.from({ length: 8 }, () => [GPU])]);
    expect(forgotten).toEqual([]);
    expect((await handle.query(instanceStatus)).status).toBe('claimed');
  });
});

test.each<[string, Activities['gpusInSweep']]>([
  ['a sweep that holds the GPU too long', async ({ gpuUuids }) => gpuUuids],
  ['a look that fails', boom],
])('%s: try again, it is no fault of the launch and the permission stays usable', async (_, gpusInSweep) => {
  let isHeld = true;
  const { activities, forgotten } = outside({
    claimLaunch: async () =>
      isHeld ? { kind: 'awaiting', gpuUuids: [GPU] } : { kind: 'claimed', plugin: 'simulated', gpus: [] },
    gpusInSweep,
  });
  await withLaunch(activities, async ({ handle }) => {
    expect(await codeOf(claimedIn(handle, 300_000))).toBe('service.unavailable');
    isHeld = false;
    await claimed(handle);
    expect(forgotten).toEqual([]);
  });
});

test('a permission waits for sweeps ten minutes in all: then its claims are refused and leave nothing behind', async () => {
  let [claims, looks] = [0, 0];
  const { activities } = outside({
    claimLaunch: async () => {
      claims += 1;
      return { kind: 'awaiting', gpuUuids: [GPU] };
    },
    gpusInSweep: async ({ gpuUuids }) => {
      looks += 1;
      return gpuUuids;
    },
  });
  await withLaunch(activities, async ({ handle }) => {
    const accepted = async () =>
      (await handle.fetchHistory()).events?.filter((event) => event.workflowExecutionUpdateAcceptedEventAttributes);
    for (let again = 0; again < 3; again++) {
      expect(await codeOf(claimedIn(handle, 300_000))).toBe('service.unavailable');
    }
    expect([claims, looks]).toEqual([3, 200]);
    for (let again = 0; again < 3; again++) expect(await codeOf(claimed(handle))).toBe('service.unavailable');
    expect([claims, looks]).toEqual([3, 200]);
    expect(await accepted()).toHaveLength(3);
  });
});

test('a launch cancelled while its claim waits for a sweep is no fault of the validator', async () => {
  let hasLooked = (): void => {};
  const looked = new Promise<void>((resolve) => (hasLooked = resolve));
  const { activities } = outside({
    claimLaunch: async () => {
      hasLooked();
      return { kind: 'awaiting', gpuUuids: [GPU] };
    },
    gpusInSweep: async ({ gpuUuids }) => gpuUuids,
  });
  await withLaunch(activities, async ({ handle }) => {
    const answer = codeOf(claimed(handle));
    await looked;
    await handle.cancel();
    expect(await answer).toBe('resource.not_found');
    expect(await handle.result()).toBe('operator_requested');
  });
});

test('an instance that answers again is routed to again, and a look that fails is not silence', async () => {
  const unseen: Sight = { kind: 'unseen', detail: 'ECONNREFUSED', consecutiveFailures: 0 };
  const sights: (Sight | 'blind')[] = [
    unseen,
    unseen,
    { kind: 'serving', consecutiveFailures: 0 },
    unseen,
    ...Array<'blind'>(8).fill('blind'),
    { kind: 'serving', consecutiveFailures: 0 },
  ];
  const { activities, forgotten, routable } = outside({
    probeInstance: async () => {
      const sight = sights.shift() ?? unseen;
      if (sight === 'blind') throw ApplicationFailure.nonRetryable('no database');
      return sight;
    },
  });
  await withLaunch(activities, async ({ handle }) => {
    await active(handle);
    expect(await handle.result()).toBe('silent');
    expect(sights).toEqual([]);
    expect(routable).toEqual([false, true, false, true, false]);
    expect(forgotten).toHaveLength(1);
  });
});

test.each<[string, (handle: Handle) => Promise<unknown>, string]>([
  ['a signal', (handle) => handle.signal(requestRemoval, { code: 'scaled_down' }), 'scaled_down'],
  ['a cancel', (handle) => handle.cancel(), 'operator_requested'],
])('%s ends an active instance with its clean-up', async (_, act, code) => {
  const { activities, forgotten } = outside();
  await withLaunch(activities, async ({ handle, told }) => {
    await active(handle);
    await act(handle);
    expect(await handle.result()).toBe(code);
    expect(forgotten).toHaveLength(1);
    expect((await told()).at(-1)).toMatchObject({ status: 'gone', code });
  });
});

const DRAIN_MS = 10_000;
/** Runs `act` on an active instance; how long after routing stopped it was forgotten, null when routing was not stopped first. */
async function drainedMs(
  act: (handle: Handle) => Promise<unknown>,
  { drainMs, ...over }: Partial<Activities> & { drainMs?: number } = {},
): Promise<number | null> {
  let stoppedAtMs: number | null = null;
  let forgottenAtMs = 0;
  const { activities } = outside({
    probeInstance: async () => ({ kind: 'serving', consecutiveFailures: 0 }),
    stopRouting: async () => {
      stoppedAtMs ??= await env.currentTimeMs();
      return { wasRoutable: true };
    },
    forgetInstance: async () => void (forgottenAtMs = await env.currentTimeMs()),
    ...over,
  });
  await withLaunch(
    activities,
    async ({ handle }) => {
      await act(handle);
      await handle.result();
    },
    drainMs,
  );
  return stoppedAtMs === null ? null : forgottenAtMs - stoppedAtMs;
}
const scaledDown = async (handle: Handle): Promise<void> => {
  await active(handle);
  await handle.signal(requestRemoval, { code: 'scaled_down' });
};

test('a serving instance leaves routing first, and the requests under way get the drain', async () => {
  const waitedMs = await drainedMs(scaledDown, { drainMs: DRAIN_MS });
  expect(waitedMs).toBeGreaterThanOrEqual(DRAIN_MS);
  expect(waitedMs).toBeLessThan(DRAIN_MS * 2);
});

test('one that no gateway could choose is not waited for', async () => {
  let stops = 0;
  let [stoppedAtMs, forgottenAtMs] = [0, 0]; // read while an activity holds the clock
  await drainedMs(scaledDown, {
    drainMs: 3_600_000,
    stopRouting: async () => {
      stops += 1;
      stoppedAtMs = await env.currentTimeMs();
      return { wasRoutable: false };
    },
    forgetInstance: async () => void (forgottenAtMs = await env.currentTimeMs()),
  });
  expect(stops).toBe(1);
  expect(forgottenAtMs - stoppedAtMs).toBeLessThan(3_600_000);
});

const unseen = async (): Promise<Sight> => ({ kind: 'unseen', detail: 'ECONNREFUSED', consecutiveFailures: 0 });
test.each<[string, (handle: Handle) => Promise<unknown>, Partial<Activities> & { drainMs?: number }]>([
  ['a silent one', active, { drainMs: DRAIN_MS, probeInstance: unseen }],
  [
    'one that failed its requests',
    active,
    { drainMs: DRAIN_MS, probeInstance: async () => ({ kind: 'serving', consecutiveFailures: 7 }) },
  ],
  [
    'one whose GPU was lost',
    async (handle) => {
      await active(handle);
      await handle.signal(requestRemoval, { code: 'node_lost' });
    },
    { drainMs: DRAIN_MS },
  ],
  [
    'one not active yet',
    async (handle) => {
      await verified(handle);
      await handle.signal(requestRemoval, { code: 'scaled_down' });
    },
    { drainMs: DRAIN_MS },
  ],
  ['any, where the drain is 0', scaledDown, { drainMs: 0 }],
  ['any, where no drain was asked for', scaledDown, {}],
])('%s goes at once', async (_, act, over) => expect(await drainedMs(act, over)).toBeNull());

// Every activity fails in turn: what the caller hears, and how the launch ends when nobody tries again.
test.each<[keyof Activities, string, string]>([
  ['claimLaunch', 'service.unavailable', 'validator_fault'],
  ['beginProof', 'service.unavailable', 'validator_fault'],
  ['acceptCommit', 'service.unavailable', 'proof_timeout'],
  ['acceptWalk', 'service.unavailable', 'proof_timeout'],
  ['verifyProof', 'gpu.busy', 'activation_timeout'],
  ['recordVerified', 'service.unavailable', 'activation_timeout'],
  ['recordActive', 'service.unavailable', 'activation_timeout'],
])('a fault of %s is told as %s and ends in %s', async (name, told, code) => {
  const { activities, forgotten } = outside({ [name]: boom });
  await withLaunch(activities, async ({ handle }) => {
    expect(await codeOf(active(handle))).toBe(told);
    expect(await handle.result()).toBe(code);
    expect(forgotten).toHaveLength(1);
  });
});

test('a proof that could not be checked can be sent again', async () => {
  let asked = 0;
  const { activities } = outside({
    verifyProof: async () => {
      if (asked++ === 0) throw ApplicationFailure.nonRetryable('verifier is down');
      return { verified: true, trustLevel: 'simulated', verdicts: [] };
    },
  });
  await withLaunch(activities, async ({ handle }) => {
    expect(await codeOf(verified(handle))).toBe('gpu.busy');
    await handle.executeUpdate(submitProof, { args: [proof] });
    expect((await handle.query(instanceStatus)).status).toBe('verified');
  });
});

test('a proof that came in time is in time when it is sent again after an outage of the verifier', async () => {
  let asked = 0;
  const { activities } = outside({
    verifyProof: async () => {
      if (asked++ === 0) throw ApplicationFailure.nonRetryable('verifier is down');
      return { verified: true, trustLevel: 'simulated', verdicts: [] };
    },
  });
  await withLaunch(activities, async ({ handle }) => {
    await walked(handle);
    const { claimedAtMs } = await handle.query(instanceStatus);
    const sentAt = (ms: number) =>
      handle.executeUpdate(submitProof, { args: [{ ...proof, receivedAtMs: (claimedAtMs ?? NaN) + ms }] });
    expect(await codeOf(sentAt(99_000))).toBe('gpu.busy');
    await sentAt(160_000);
    expect((await handle.query(instanceStatus)).status).toBe('verified');
  });
});

test.each<[string, Partial<Activities>]>([
  ['accepted and recorded', {}],
  ['refused', { verifyProof: async () => ({ verified: false, reason: 'fill', verdicts: [] }) }],
])('received openings are dropped once a proof is %s, and not before', async (_, over) => {
  const steps: string[] = [];
  const dropped: string[][] = [];
  const base = outside(over).activities;
  const { activities, forgotten } = outside({
    ...over,
    verifyProof: async (input) => {
      steps.push('verify');
      return base.verifyProof(input);
    },
    recordVerified: async () => {
      steps.push('record');
      if (steps.length < 3) throw ApplicationFailure.nonRetryable('database is away');
      return { verifiedAtMs: 1_000 };
    },
    dropOpenings: async ({ keys }) => {
      steps.push('drop');
      dropped.push(keys);
    },
  });
  await withLaunch(activities, async ({ handle }) => {
    await walked(handle);
    await handle.executeUpdate(announceOpenings, { args: [{ gpuUuid: GPU, sha256: 's' }] });
    const sent = () => codeOf(handle.executeUpdate(submitProof, { args: [proof] }));
    await sent();
    await sent();
    await handle.result();
    const { configId } = forgotten[0] ?? { configId: '' };
    expect(dropped).toEqual([[openingsKey(configId, 's')]]);
    const expected = 'verifyProof' in over ? ['verify', 'drop'] : ['verify', 'record', 'verify', 'record', 'drop'];
    expect(steps).toEqual(expected);
  });
});

test('openings nobody asked to verify are dropped with the launch, and a store that is away keeps none from ending', async () => {
  let drops = 0;
  const { activities, forgotten } = outside({
    dropOpenings: async () => {
      drops += 1;
      throw ApplicationFailure.nonRetryable('store is away');
    },
  });
  await withLaunch(activities, async ({ handle }) => {
    await walked(handle);
    await handle.executeUpdate(announceOpenings, { args: [{ gpuUuid: GPU, sha256: 's' }] });
    expect(await handle.result()).toBe('proof_timeout');
    expect([drops, forgotten.length]).toEqual([1, 1]);
  });
});

test('the clean-up is tried until it succeeds', async () => {
  let tries = 0;
  const { activities } = outside({
    forgetInstance: async () => {
      if (++tries < 4) throw new Error('database is away');
    },
  });
  await withLaunch(activities, async ({ handle }) => {
    expect(await handle.result()).toBe('claim_timeout');
    expect(tries).toBe(4);
  });
});

// Last: an activity whose workflow ended first keeps the test server's clock from being skipped.
test('a removal does not wait for a proof that is being checked', async () => {
  let release = (): void => {};
  const { activities } = outside({
    verifyProof: () =>
      new Promise((_, reject) => {
        release = () => reject(new Error('over'));
      }),
  });
  await withLaunch(activities, async ({ handle }) => {
    await walked(handle);
    const proving = codeOf(handle.executeUpdate(submitProof, { args: [proof] }));
    for (;;) if ((await handle.query(instanceStatus)).status === 'proving') break;
    expect(await handle.executeUpdate(removeInstance, { args: [{ code: 'miner_requested' }] })).toEqual({
      code: 'miner_requested',
    });
    expect(await proving).toBe('resource.not_found');
    release();
  });
});
