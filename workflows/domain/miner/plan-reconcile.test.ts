import { expect, test } from '@jest/globals';
import type { StopCode } from './react-to.ts';
import { planReconcile, type DeploymentRow, type ReconcileAction, type ReconcileView } from './plan-reconcile.ts';

const NOW = 10_000_000;
const rules = { ageGuardMs: 60_000, graceMs: 60_000, stubDeadlineMs: 1_800_000 };
const row = (over: Partial<DeploymentRow> = {}): DeploymentRow => ({
  deploymentId: 'd1',
  chuteId: 'c1',
  version: 'v1',
  configId: 'k1',
  instanceId: 'i1',
  jobId: null,
  status: 'active',
  isVerified: true,
  isActive: true,
  createdAtMs: NOW - 600_000,
  missing: null,
  ...over,
});
const instance = {
  instanceId: 'i1',
  configId: 'k1',
  chuteId: 'c1',
  isActive: true,
  isVerified: true,
  firstSeenAtMs: NOW - 600_000,
};
const object = { deploymentId: 'd1', state: 'running' as const, createdAtMs: NOW - 600_000 };
const view = (over: Partial<ReconcileView> = {}): ReconcileView => ({
  nowMs: NOW,
  deployments: [row()],
  instances: [instance],
  chutes: { c1: 'v1' },
  rollingChuteIds: [],
  objects: [object],
  ...over,
});
const since = (what: string, agoMs: number) => ({ missing: { what, sinceMs: NOW - agoMs } });
const fact = (kind: 'bound' | 'verified' | 'activated'): ReconcileAction => ({
  kind: 'fact',
  deploymentId: 'd1',
  fact: kind,
  instanceId: 'i1',
});
const note = (what: string): ReconcileAction => ({ kind: 'note_missing', deploymentId: 'd1', what });
const someEvidence = expect.any(String) as unknown as string;
const stop = (code: StopCode): ReconcileAction => ({ kind: 'stop', deploymentId: 'd1', code, evidence: someEvidence });

test.each<[string, Partial<ReconcileView>, ReconcileAction[]]>([
  ['everything agrees', {}, []],
  ['R6a adopts the instance of its config', { deployments: [row({ instanceId: null })] }, [fact('bound')]],
  [
    'R6b copies verified and active',
    { deployments: [row({ status: 'running', isVerified: false, isActive: false })] },
    [fact('verified'), fact('activated')],
  ],
  ['R6c a process is missed first', { objects: [] }, [note('process')]],
  [
    'R6c and is gone after the grace',
    { objects: [], deployments: [row(since('process', 60_000))] },
    [stop('process_gone')],
  ],
  ['R6c but not a moment earlier', { objects: [], deployments: [row(since('process', 59_999))] }, []],
  ['R6c a young row is left alone', { objects: [], deployments: [row({ createdAtMs: NOW - 59_999 })] }, []],
  [
    'R6c what was never started misses nothing',
    { objects: [], deployments: [row({ status: 'permitted', isActive: false, instanceId: null })], instances: [] },
    [],
  ],
  ['a blind driver proves nothing', { objects: null, deployments: [row(since('process', 600_000))] }, []],
  [
    'a driver that sees it again clears the note',
    { deployments: [row(since('process', 600_000))] },
    [{ kind: 'clear_missing', deploymentId: 'd1' }],
  ],
  ['an ended process is evidence at once', { objects: [{ ...object, state: 'exited' }] }, [stop('process_exited')]],
  ['an unknown process is not', { objects: [{ ...object, state: 'unknown' }] }, []],
  ['R6d an instance is missed first', { instances: [] }, [note('instance')]],
  [
    'R6d and gone after the grace',
    { instances: [], deployments: [row(since('instance', 60_000))] },
    [stop('instance_unknown')],
  ],
  ['R6d a silent validator proves nothing', { instances: null, deployments: [row(since('instance', 600_000))] }, []],
  [
    'another kind of absence starts its own clock',
    { instances: [], deployments: [row(since('process', 600_000))] },
    [note('instance')],
  ],
  ['R6g a deleted chute', { chutes: {}, deployments: [row(since('chute', 60_000))] }, [stop('chute_deleted')]],
  ['R6g an old version', { chutes: { c1: 'v2' }, deployments: [row(since('version', 60_000))] }, [stop('old_version')]],
  ['R6g not while it rolls', { chutes: { c1: 'v2' }, rollingChuteIds: ['c1'] }, []],
  ['R6g not when nobody says what rolls', { chutes: { c1: 'v2' }, rollingChuteIds: null }, []],
  ['R6g not without a chute list', { chutes: null }, []],
  ['R6f a job outlives its chute', { chutes: {}, deployments: [row({ jobId: 'j1' })] }, []],
  [
    'R6j forgotten by its workflow',
    {
      deployments: [row({ status: 'permitted', isActive: false, instanceId: null, createdAtMs: NOW - 1_860_000 })],
      instances: [],
    },
    [stop('activation_timeout')],
  ],
  [
    'R6j not before the deadline and the grace',
    {
      deployments: [row({ status: 'permitted', isActive: false, instanceId: null, createdAtMs: NOW - 1_859_999 })],
      instances: [],
    },
    [],
  ],
  [
    'a removal is taken up again',
    { deployments: [row({ status: 'terminating' })] },
    [{ kind: 'resume_stop', deploymentId: 'd1' }],
  ],
  [
    'R7 an instance nobody claims',
    { deployments: [], objects: [] },
    [{ kind: 'delete_instance', chuteId: 'c1', instanceId: 'i1', evidence: someEvidence }],
  ],
  [
    'R7 not a young one',
    { deployments: [], objects: [], instances: [{ ...instance, firstSeenAtMs: NOW - 59_999 }] },
    [],
  ],
  [
    'R7 not while a row waits for its config id',
    { deployments: [row({ status: 'reserving', isActive: false, configId: null, instanceId: null })], objects: [] },
    [],
  ],
  [
    'R8 an object nobody knows',
    { deployments: [], instances: [] },
    [{ kind: 'remove_object', deploymentId: 'd1', evidence: someEvidence }],
  ],
  ['R8 not a young one', { deployments: [], instances: [], objects: [{ ...object, createdAtMs: NOW - 59_999 }] }, []],
  [
    'R12 sight of nothing at all deletes nothing',
    { instances: null, chutes: null, rollingChuteIds: null, objects: null },
    [],
  ],
])('%s', (_, over, expected) => {
  const given = view(over);
  const before = structuredClone(given);
  expect(planReconcile(given, rules)).toEqual(expected);
  expect(given).toEqual(before);
});
