import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker } from '@temporalio/worker';
import type { NodeActivities } from '../../activities/validator/nodes/node-activities.ts';
import type { SweepActivities } from '../../activities/validator/nodes/sweep-activities.ts';
import type {
  OpeningsActivities,
  ProofSession,
  ProofSessionActivities,
  ProofVerificationActivities,
} from '../../workflows/domain/proof/plugin.ts';
import type { WindowMember } from '../../workflows/domain/nodes/sweep-windows.ts';
import { PROFILES } from '../../workflows/domain/proof/profiles.ts';
import { nodeWorkflowId } from '../../workflows/ids.ts';
import { TASK_QUEUES } from '../../workflows/task-queues.ts';
import {
  nodeStatus,
  type IdleNode,
  type NodePolicy,
  type NodeState,
  type ProvableNode,
} from '../../workflows/validator/nodes/messages.ts';
import { nodeLifecycle } from '../../workflows/validator/nodes/node-lifecycle.ts';
import { workflowBundle } from '../bundle.ts';

export type NodeWorldActivities = NodeActivities &
  ProofSessionActivities &
  ProofVerificationActivities &
  OpeningsActivities &
  SweepActivities;
export const policy: NodePolicy = {
  plugin: 'simulated',
  reverifyEveryMs: 100_000,
  silenceGraceMs: 120_000,
  retryEveryMs: 5000,
  sweepAfterRegistrationMs: 60_000,
};

/** An agent that proves, a store that remembers what was recorded, and no instance anywhere, unless a test says otherwise. */
export function outside(over: Partial<NodeWorldActivities> = {}) {
  const rows = new Map<string, string>();
  const recorded: string[] = [];
  const proofs: number[] = [];
  /** windows of the sweeps asked for, ms */
  const requested: number[] = [];
  const released: string[] = [];
  const companies: WindowMember[][] = [];
  const session = (uuids: string[]): ProofSession => ({
    plugin: 'simulated',
    deadlineMs: 1,
    roots: null,
    nonce2: null,
    walks: null,
    samples: null,
    challenges: uuids.map((gpuUuid) => ({
      binding: {
        validatorNonce: '',
        configId: '',
        minerHotkey: '',
        gpuUuid,
        gpuType: '',
        vramBytes: 0,
        transportPublicKey: '',
      },
      profile: PROFILES['tiny-a'],
    })),
  });
  const mark = (uuids: string[], status: string) => {
    recorded.push(status);
    for (const uuid of uuids) if (rows.has(uuid)) rows.set(uuid, status);
  };
  const activities: NodeWorldActivities = {
    insertNodes: async ({ nodes }) => {
      for (const { uuid } of nodes) rows.set(uuid, 'announced');
      return nodes.map(({ uuid }) => provable(uuid));
    },
    recordNodesChallenged: async ({ uuids }) => mark(uuids, 'challenged'),
    recordNodesVerified: async ({ uuids }) => mark(uuids, 'verified'),
    recordNodesFailed: async ({ uuids, status }) => mark(uuids, status),
    lookUpNode: async ({ uuid }) => ({ status: rows.get(uuid) ?? 'gone', instanceId: null }),
    forgetNode: async ({ uuid }) => void rows.delete(uuid),
    askDeviceInfo: async () => ({ kind: 'answered', value: null, elapsedMs: 1 }),
    commitOnAgent: async ({ nodes }) => {
      proofs.push(nodes.length);
      return { kind: 'answered', value: {}, elapsedMs: 1 };
    },
    walkOnAgent: async () => ({ kind: 'answered', value: { walks: {}, startedAtMs: 0 }, elapsedMs: 1 }),
    openOnAgent: async () => ({ kind: 'answered', value: {}, elapsedMs: 1 }),
    releaseAgent: async () => {},
    beginProof: async ({ gpus }) => session(gpus.map(({ uuid }) => uuid)),
    acceptCommit: async ({ session: now }) => ({ ...now, nonce2: 'n' }),
    acceptWalk: async ({ session: now }) => ({ ...now, samples: {} }),
    verifyProof: async ({ session: now }) => ({
      verified: true,
      trustLevel: 'simulated',
      verdicts: now.challenges.map(({ binding }) => ({ gpuUuid: binding.gpuUuid, verified: true, samplesChecked: 8 })),
    }),
    dropOpenings: async () => {},
    dueSweepsOf: async () => [],
    requestSweep: async ({ withinMs }) => void requested.push(withinMs),
    reserveIdleNodes: async () => [],
    recordCompany: async ({ members }) => {
      companies.push(members);
      return [];
    },
    releaseNodes: async ({ uuids }) => void released.push(...uuids),
    concludeNodes: async ({ nodes }) => {
      for (const { uuid, outcome } of nodes) {
        if (outcome.kind !== 'unclear') mark([uuid], outcome.kind === 'silent' ? 'lost' : outcome.kind);
        released.push(uuid);
      }
    },
    ...over,
  };
  return { activities, rows, recorded, proofs, requested, released, companies };
}
export const newUuid = (): string => randomUUID().replaceAll('-', '');
export function provable(uuid: string, over: Partial<ProvableNode> = {}): ProvableNode {
  return {
    uuid,
    gpuType: 'h100',
    vramBytes: 80e9,
    name: 'n',
    memory: 1,
    clockRate: 1,
    deviceIndex: 0,
    host: '127.0.0.1',
    port: 80,
    ...over,
  };
}
export const announced = (uuid: string) => ({
  uuid,
  name: 'n',
  memory: 1,
  major: null,
  minor: null,
  processors: null,
  sxm: null,
  clockRate: 1,
  maxThreadsPerProcessor: null,
  concurrentKernels: null,
  ecc: null,
  deviceIndex: 0,
  gpuIdentifier: 'h100',
  verificationHost: '127.0.0.1',
  verificationPort: 80,
});

/** Workers of every queue on `env`; which world they act in is looked up at each call. */
export async function startNodeWorkers(
  env: TestWorkflowEnvironment,
  worldNow: () => ReturnType<typeof outside>,
): Promise<{ stop: () => Promise<void> }> {
  const bundle = await workflowBundle(
    join(import.meta.dirname, 'node-workflows.ts'),
    join(import.meta.dirname, '../../.canopy/test-bundles'),
  );
  const names = Object.keys(worldNow().activities) as (keyof NodeWorldActivities)[];
  const activities = Object.fromEntries(
    names.map((name) => [name, (input: never) => worldNow().activities[name](input)]),
  );
  const connection = env.nativeConnection;
  const workers = [
    await Worker.create({ connection, taskQueue: TASK_QUEUES.validator, workflowBundle: bundle, activities }),
    ...(await Promise.all(
      [TASK_QUEUES.gpu, TASK_QUEUES.agents, TASK_QUEUES.openings].map((taskQueue) =>
        Worker.create({ connection, taskQueue, activities }),
      ),
    )),
  ];
  const running = Promise.all(workers.map((worker) => worker.run()));
  return {
    stop: async () => {
      for (const worker of workers) worker.shutdown();
      await running;
    },
  };
}

/** The registration of every life that a test starts by itself. */
export const TASK = randomUUID();
export const idle = (uuid: string, over: Partial<ProvableNode> = {}): IdleNode => ({
  ...provable(uuid, over),
  taskId: TASK,
  minerHotkey: 'miner',
  serverId: null,
});

/** A life of its own, verified before, so that only what comes after is under test. */
export async function startLife(
  env: TestWorkflowEnvironment,
  uuid: string,
  resume: Partial<NodeState> = {},
  taskId = TASK,
) {
  return env.client.workflow.start(nodeLifecycle, {
    workflowId: nodeWorkflowId(uuid),
    taskQueue: TASK_QUEUES.validator,
    args: [
      {
        node: provable(uuid),
        taskId,
        minerHotkey: 'miner',
        serverId: null,
        policy,
        awaitsRegistration: false,
        resume: {
          status: 'verified',
          reason: null,
          attempts: 1,
          failures: 0,
          lastVerifiedAtMs: 1,
          isUnclear: false,
          proof: null,
          ...resume,
        },
      },
    ],
  });
}
export const stateOf = (env: TestWorkflowEnvironment, uuid: string): Promise<NodeState> =>
  env.client.workflow.getHandle(nodeWorkflowId(uuid)).query(nodeStatus);

/** Lets time pass in steps until it holds: a sleep ends when the clock got there, not when the workers did. */
export async function passUntil(env: TestWorkflowEnvironment, holds: () => Promise<boolean> | boolean): Promise<void> {
  for (let steps = 0; steps < 400; steps++) {
    if (await holds()) return;
    await env.sleep(5000);
  }
  throw new Error('it never came to hold');
}
