import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { WithStartWorkflowOperation, type WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { bundleWorkflowCode, Worker, type WorkflowBundleWithSourceMap } from '@temporalio/worker';
import type { ChuteActivities } from '../../../activities/validator/chutes/chute-activities.ts';
import { connectTestTemporal, createTimeSkippingEnvironment } from '../../../workers/testing/workflow-environment.ts';
import type { Launch } from '../../domain/chutes/decide-launch.ts';
import { chuteWorkflowId, instanceWorkflowId } from '../../ids.ts';
import {
  chuteStatus,
  deleteChute,
  demandSeen,
  deployChute,
  requestLaunch,
  setTargetCount,
  type ChuteInput,
  type ChuteState,
} from './messages.ts';
import { play, type chuteDeployment } from './stub-instances.fixture.ts';

let env: TestWorkflowEnvironment;
let realTime: TestWorkflowEnvironment;
let workflowBundle: WorkflowBundleWithSourceMap;
beforeAll(async () => {
  env = await createTimeSkippingEnvironment();
  realTime = await connectTestTemporal();
  workflowBundle = await bundleWorkflowCode({ workflowsPath: join(import.meta.dirname, 'stub-instances.fixture.ts') });
}, 60_000);
afterAll(() => Promise.all([env.teardown(), realTime.teardown()]));

const DEADLINES = {
  claimMs: 7_200_000,
  proofMs: 150_000,
  activationMs: 5_400_000,
  probeIntervalMs: 30_000,
  silenceGraceMs: 120_000,
};

/** Activities over plain memory that count, and fail once when told to. */
function fakeActivities(failing: Partial<Record<keyof ChuteActivities, ApplicationFailure | Error>> = {}) {
  const calls: { name: string; input: unknown }[] = [];
  const row = { targetCount: 1, version: null as string | null, public: false };
  const live: Record<string, Launch> = {};
  const gone: string[] = [];
  const note = <Result>(name: keyof ChuteActivities, input: unknown, result: () => Result): Promise<Result> => {
    const failure = failing[name];
    if (failure) {
      delete failing[name];
      return Promise.reject(failure);
    }
    calls.push({ name, input });
    return Promise.resolve(result());
  };
  const activities: ChuteActivities = {
    loadChute: (input) =>
      note('loadChute', input, () => ({
        deployment:
          row.version === null
            ? null
            : { chuteId: input.chuteId, version: row.version, public: row.public, targetCount: row.targetCount },
        launches: {},
        rolling: null,
      })),
    saveDeployment: (input) =>
      note('saveDeployment', input, () => {
        Object.assign(row, { version: input.version, public: input.public });
        return { targetCount: row.targetCount };
      }),
    saveTargetCount: (input) => note('saveTargetCount', input, () => void (row.targetCount = input.targetCount)),
    drawLaunchIds: () => note('drawLaunchIds', {}, () => ({ configId: randomUUID(), instanceId: randomUUID() })),
    issueLaunch: (input) => note('issueLaunch', input, () => ({ permittedAtMs: 0, deadlines: DEADLINES })),
    forgetLaunch: (input) => note('forgetLaunch', input, () => undefined),
    inspectLaunches: (input) => note('inspectLaunches', input, () => ({ gone, live })),
    announceBounty: (input) => note('announceBounty', input, () => undefined),
    announceUpdate: (input) => note('announceUpdate', input, () => undefined),
    endRollingUpdate: (input) => note('endRollingUpdate', input, () => undefined),
    forgetChute: (input) => note('forgetChute', input, () => void (row.version = null)),
  };
  const of = (name: keyof ChuteActivities) => calls.filter((call) => call.name === name).map((call) => call.input);
  return { activities, of, row, live, gone };
}

/** One chute on its own task queue: deployed, driven, and looked at until what the test waits for is so. */
async function withChute(
  fakes: ReturnType<typeof fakeActivities>,
  run: (chute: Chute) => Promise<void>,
  within = env,
  input: Partial<ChuteInput> = {},
): Promise<void> {
  const taskQueue = randomUUID();
  const worker = await Worker.create({
    connection: within.nativeConnection,
    namespace: within.namespace ?? 'default',
    taskQueue,
    workflowBundle,
    activities: fakes.activities,
  });
  await worker.runUntil(async () => {
    const chute = driveChute(randomUUID(), taskQueue, within, input);
    await run(chute);
    // Every test ends with a clean deletion; a terminated run would leave the server's clock locked, too.
    if (await chute.isRunning()) await chute.remove().catch(() => undefined);
    await chute.handle().result();
  });
}

type Chute = ReturnType<typeof driveChute>;
function driveChute(chuteId: string, taskQueue: string, within: TestWorkflowEnvironment, input: Partial<ChuteInput>) {
  const { client } = within;
  const handle = (): WorkflowHandle<typeof chuteDeployment> => client.workflow.getHandle(chuteWorkflowId(chuteId));
  const started = () =>
    new WithStartWorkflowOperation<typeof chuteDeployment>('chuteDeployment', {
      workflowId: chuteWorkflowId(chuteId),
      taskQueue,
      args: [{ chuteId, ...input } satisfies ChuteInput],
      workflowIdConflictPolicy: 'USE_EXISTING',
    });
  const state = (): Promise<ChuteState> => handle().query(chuteStatus);
  const isRunning = async (): Promise<boolean> => (await handle().describe()).status.name === 'RUNNING';
  const until = async (what: string, holds: (state: ChuteState) => boolean, stepMs = 1_000): Promise<ChuteState> => {
    for (let looks = 0; looks < 4_000; looks++) {
      const now = await state();
      if (holds(now)) return now;
      await within.sleep(within === env ? stepMs : 20);
    }
    throw new Error(`never so: ${what}; last ${JSON.stringify(await state())}`);
  };
  return {
    chuteId,
    handle,
    isRunning,
    state,
    until,
    deploy: (version: string, isPublic = false) =>
      client.workflow.executeUpdateWithStart(deployChute, {
        startWorkflowOperation: started(),
        args: [
          {
            definitionKey: 'k',
            definitionSha256: 's',
            userId: 'u',
            chuteId,
            version,
            public: isPublic,
            receivedAtMs: 0,
          },
        ],
      }),
    scale: (targetCount: number) => handle().executeUpdate(setTargetCount, { args: [{ targetCount }] }),
    launch: (minerHotkey: string) =>
      handle().executeUpdate(requestLaunch, {
        args: [{ minerHotkey, minerColdkey: 'c', minerUid: 1, requestedAtMs: 0 }],
      }),
    remove: () => client.workflow.executeUpdateWithStart(deleteChute, { startWorkflowOperation: started(), args: [] }),
    tell: (instanceId: string, fact: 'verified' | 'active' | 'gone' | 'refuse_removal' | 'vanish') =>
      client.workflow.getHandle(instanceWorkflowId(instanceId)).signal(play, { fact }),
    async activate(minerHotkey: string): Promise<string> {
      const { instanceId } = await this.launch(minerHotkey);
      await this.tell(instanceId, 'active');
      await until(`${instanceId} active`, ({ launches }) => launches[instanceId]?.active === true, 50);
      return instanceId;
    },
  };
}

const codeOf = async (answer: Promise<unknown>): Promise<string | null> => {
  try {
    await answer;
    return null;
  } catch (err) {
    for (let cause: unknown = err; cause instanceof Error; cause = cause.cause) {
      if (cause instanceof ApplicationFailure) return cause.type ?? null;
    }
    throw err;
  }
};
const activeCount = ({ launches }: ChuteState): number =>
  Object.values(launches).filter((launch) => launch.active).length;

test('a new chute announces at once and again every 30 s, with a growing bounty, until it is served', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    expect(await chute.deploy('v1')).toEqual({ version: 'v1', created: true });
    await chute.until('announced three times', () => fakes.of('announceBounty').length >= 3);
    expect(fakes.of('announceBounty').slice(0, 3)).toEqual(
      [100, 190, 280].map((bounty) => ({ chuteId: chute.chuteId, bounty })),
    );
    await chute.activate('m1');
    await chute.until('satisfied', ({ status }) => status === 'satisfied');
    const told = fakes.of('announceBounty').length;
    await env.sleep('10 minutes');
    expect(fakes.of('announceBounty')).toHaveLength(told);
  });
});

test('two miners asking at once for the last slot: one gets it, the other 423', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    await chute.deploy('v1');
    const answers = await Promise.all(['m1', 'm2', 'm3', 'm4'].map((miner) => codeOf(chute.launch(miner))));
    expect(answers.filter((answer) => answer === null)).toHaveLength(1);
    expect(answers.filter((answer) => answer === 'launch.not_scalable')).toHaveLength(3);
    expect(fakes.of('issueLaunch')).toHaveLength(1);
  });
});

test('a gone instance is announced at once and replaced', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    await chute.deploy('v1');
    const first = await chute.activate('m1');
    await chute.until('satisfied', ({ status }) => status === 'satisfied');
    const told = fakes.of('announceBounty').length;
    await chute.tell(first, 'gone');
    await chute.until('wanting again', ({ status }) => status === 'wanting');
    await chute.until('announced again', () => fakes.of('announceBounty').length > told, 100);
    await chute.activate('m2');
    expect(activeCount(await chute.state())).toBe(1);
  });
});

test('scales up to the target and down from it, and never past it', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    await chute.deploy('v1');
    await chute.scale(3);
    for (const miner of ['m1', 'm2', 'm3']) await chute.activate(miner);
    expect(await codeOf(chute.launch('m4'))).toBe('launch.not_scalable');
    await chute.scale(1);
    const state = await chute.until('one left', (now) => Object.keys(now.launches).length === 1);
    expect(activeCount(state)).toBe(1);
    await chute.scale(0);
    await chute.until('none left', (now) => Object.keys(now.launches).length === 0 && now.status === 'satisfied');
    expect(await codeOf(chute.launch('m1'))).toBe('launch.not_scalable');
  });
});

test('a rolling update tells each miner, lets replacements in by quota, and then ends what is old', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    await chute.deploy('v1');
    await chute.scale(2);
    const old = [await chute.activate('m1'), await chute.activate('m2')];
    expect(await chute.deploy('v2')).toEqual({ version: 'v2', created: false });
    expect(fakes.of('saveDeployment').at(-1)).toMatchObject({
      rolling: { permitted: { m1: 1, m2: 1 }, gapMs: 300_000 },
    });
    expect(await codeOf(chute.launch('m3'))).toBe('launch.not_scalable'); // no quota
    await chute.activate('m1');
    expect(await codeOf(chute.launch('m1'))).toBe('launch.not_scalable'); // quota spent
    expect(activeCount(await chute.state())).toBe(3); // the old ones serve on
    await chute.until('second notice', () => fakes.of('announceUpdate').length === 2);
    await chute.activate('m2');
    const state = await chute.until(
      'updated',
      (now) => now.status === 'satisfied' && Object.keys(now.launches).length === 2,
    );
    expect(Object.values(state.launches).map((launch) => launch.version)).toEqual(['v2', 'v2']);
    expect(old.some((id) => id in state.launches)).toBe(false);
    expect(fakes.of('endRollingUpdate')).toHaveLength(1);
    expect(fakes.of('issueLaunch').at(-1)).toMatchObject({ permitted: { m1: 0, m2: 0 } });
  });
}, 60_000);

test('a rolling update nobody follows ends after its window', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    await chute.deploy('v1');
    await chute.activate('m1');
    await chute.deploy('v2');
    await chute.until('updating', ({ status }) => status === 'updating', 10);
    await env.sleep('59 minutes');
    expect(activeCount(await chute.state())).toBe(1);
    await chute.until(
      'wanting v2',
      (now) => now.status === 'wanting' && Object.keys(now.launches).length === 0,
      60_000,
    );
    await chute.activate('m2');
  });
});

test('deletion waits until every instance is gone', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    await chute.deploy('v1');
    const instance = await chute.activate('m1');
    await chute.tell(instance, 'refuse_removal');
    let answered = false;
    const deleted = chute.remove().finally(() => (answered = true));
    await chute.until('deleting', ({ status }) => status === 'deleting', 10);
    expect(await codeOf(chute.deploy('v2'))).toBe('resource.conflict');
    expect(await codeOf(chute.launch('m2'))).toBe('resource.not_found');
    expect([answered, fakes.of('forgetChute').length]).toEqual([false, 0]);
    await chute.tell(instance, 'gone');
    expect(await deleted).toEqual({ chuteId: chute.chuteId });
    await chute.handle().result();
    expect(fakes.of('forgetChute')).toHaveLength(1);
    expect(await chute.deploy('v3')).toEqual({ version: 'v3', created: true }); // the name is free again
  });
});

test('deleting what is not there is refused and leaves no workflow behind', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    expect(await codeOf(chute.remove())).toBe('resource.not_found');
    await chute.handle().result();
  });
});

test('the same version again is refused; the same version made public is not', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    await chute.deploy('v1');
    expect(await codeOf(chute.deploy('v1'))).toBe('resource.conflict');
    expect(await chute.deploy('v1', true)).toEqual({ version: 'v1', created: false });
  });
});

test('demand is announced before its time', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    await chute.deploy('v1');
    await chute.until('announced', () => fakes.of('announceBounty').length === 1, 10);
    await env.sleep('6 seconds');
    await chute.handle().signal(demandSeen);
    await chute.until('announced again', () => fakes.of('announceBounty').length === 2, 10);
    expect(fakes.of('announceBounty')).toHaveLength(2);
  });
});

test('an instance whose last word was lost does not hold its slot for ever', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    await chute.deploy('v1');
    const instance = await chute.activate('m1');
    await chute.tell(instance, 'vanish');
    await chute.scale(0);
    await chute.until('forgotten', ({ launches }) => Object.keys(launches).length === 0);
    expect(fakes.of('forgetLaunch')).toEqual([{ instanceId: instance, code: 'scaled_down' }]);
  });
});

test('rows correct the memory: unknown instances are taken up, ended ones dropped', async () => {
  const fakes = fakeActivities();
  await withChute(fakes, async (chute) => {
    await chute.deploy('v1');
    const instance = await chute.activate('m1');
    fakes.gone.push(instance);
    fakes.live.i9 = {
      minerHotkey: 'm9',
      version: 'v1',
      permittedAtMs: 0,
      verified: true,
      active: true,
      removal: null,
      lot: 0.5,
    };
    const state = await chute.until('corrected', ({ launches }) => 'i9' in launches, 60_000);
    expect(Object.keys(state.launches)).toEqual(['i9']);
  });
});

test('a workflow without memory goes on from its rows', async () => {
  const fakes = fakeActivities();
  Object.assign(fakes.row, { version: 'v1', targetCount: 2 });
  await withChute(fakes, async (chute) => {
    expect(await chute.deploy('v2')).toEqual({ version: 'v2', created: false });
    expect((await chute.state()).deployment).toMatchObject({ version: 'v2', targetCount: 2 });
  });
});

// The time-skipping server's clock stays locked after some retried activities: these run on the real one.
test.each<keyof ChuteActivities>([
  'loadChute',
  'saveDeployment',
  'saveTargetCount',
  'drawLaunchIds',
  'issueLaunch',
  'announceBounty',
  'announceUpdate',
  'endRollingUpdate',
  'forgetChute',
  'inspectLaunches',
])(
  '%s failing once changes nothing but time',
  async (name) => {
    const fakes = fakeActivities({ [name]: new Error('the outside is away') });
    await withChute(
      fakes,
      async (chute) => {
        await chute.deploy('v1');
        await chute.scale(1);
        await chute.activate('m1');
        if (name === 'inspectLaunches') await chute.until('looked twice', () => fakes.of(name).length > 1);
        await chute.deploy('v2');
        await chute.activate('m1');
        await chute.until('updated', (now) => now.status === 'satisfied' && Object.keys(now.launches).length === 1);
        await chute.remove();
        expect(fakes.of(name).length).toBeGreaterThan(0);
      },
      realTime,
      name === 'inspectLaunches' ? { lookAtRowsMs: 500 } : {},
    );
  },
  60_000,
);

test('a launch that cannot be issued gives its slot back and leaves no permission', async () => {
  const fakes = fakeActivities({ issueLaunch: ApplicationFailure.nonRetryable('no', 'resource.conflict') });
  await withChute(fakes, async (chute) => {
    await chute.deploy('v1');
    expect(await codeOf(chute.launch('m1'))).toBe('resource.conflict');
    expect((await chute.state()).launches).toEqual({});
    expect(fakes.of('forgetLaunch')).toHaveLength(1);
    await chute.activate('m2');
  });
});
