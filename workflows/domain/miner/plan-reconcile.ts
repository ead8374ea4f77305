import type { StopCode } from './react-to.ts';

/** A row of `deployments`. `missing*` is evidence an earlier look recorded. */
export interface DeploymentRow {
  deploymentId: string;
  chuteId: string;
  version: string;
  configId: string | null;
  instanceId: string | null;
  jobId: string | null;
  status: 'reserving' | 'permitted' | 'starting' | 'running' | 'active' | 'terminating';
  isVerified: boolean;
  isActive: boolean;
  createdAtMs: number;
  missing: { what: string; sinceMs: number } | null;
}
export interface RemoteInstance {
  instanceId: string;
  configId: string | null;
  chuteId: string;
  isActive: boolean;
  isVerified: boolean;
  firstSeenAtMs: number;
}
/** A process or container of this miner, by the deployment it was made for. */
export interface ComputeObject {
  deploymentId: string;
  state: 'running' | 'exited' | 'unknown';
  createdAtMs: number;
}

/** Three sources. `null` means "could not look", which is never the same as an empty list (design rule 6). */
export interface ReconcileView {
  nowMs: number;
  deployments: readonly DeploymentRow[];
  instances: readonly RemoteInstance[] | null;
  /** current version by chute id */
  chutes: Readonly<Record<string, string>> | null;
  rollingChuteIds: readonly string[] | null;
  objects: readonly ComputeObject[] | null;
}
export interface ReconcileRules {
  /** younger things are left alone: their rows, objects and instances appear one after another */
  ageGuardMs: number;
  /** an absence must last this long, over at least two looks */
  graceMs: number;
  /** what is not active by then was forgotten by its own workflow, whose deadline is shorter */
  stubDeadlineMs: number;
}

export type ReconcileAction =
  | { kind: 'fact'; deploymentId: string; fact: 'bound' | 'verified' | 'activated'; instanceId: string }
  | { kind: 'note_missing'; deploymentId: string; what: string }
  | { kind: 'clear_missing'; deploymentId: string }
  | { kind: 'stop'; deploymentId: string; code: StopCode; evidence: string }
  | { kind: 'resume_stop'; deploymentId: string }
  | { kind: 'remove_object'; deploymentId: string; evidence: string }
  | { kind: 'delete_instance'; chuteId: string; instanceId: string; evidence: string };

/** Corrections in a stated order: rows in the given order, then objects, then instances (spec/miner.md §5.4, made safe). */
export function planReconcile(view: ReconcileView, rules: ReconcileRules): ReconcileAction[] {
  const actions: ReconcileAction[] = [];
  for (const row of view.deployments) actions.push(...correctRow(row, view, rules));
  const known = new Set(view.deployments.map((row) => row.deploymentId));
  for (const object of view.objects ?? []) {
    if (known.has(object.deploymentId) || view.nowMs - object.createdAtMs < rules.ageGuardMs) continue;
    actions.push({ kind: 'remove_object', deploymentId: object.deploymentId, evidence: 'no row knows it' });
  }
  for (const instance of view.instances ?? []) {
    const isClaimed = view.deployments.some((row) => matches(row, instance));
    // A permission whose answer is still on its way has no config id in its row yet.
    const maySoonBeClaimed = view.deployments.some((row) => row.configId === null && row.chuteId === instance.chuteId);
    if (isClaimed || maySoonBeClaimed || view.nowMs - instance.firstSeenAtMs < rules.ageGuardMs) continue;
    const { chuteId, instanceId } = instance;
    actions.push({
      kind: 'delete_instance',
      chuteId,
      instanceId,
      evidence: 'no deployment of this miner is that instance',
    });
  }
  return actions;
}

function correctRow(row: DeploymentRow, view: ReconcileView, rules: ReconcileRules): ReconcileAction[] {
  const { deploymentId } = row;
  if (row.status === 'terminating') return [{ kind: 'resume_stop', deploymentId }];
  const instance = view.instances?.find((each) => matches(row, each));
  const facts: ReconcileAction[] = [];
  if (instance) {
    const { instanceId } = instance;
    if (row.instanceId === null) facts.push({ kind: 'fact', deploymentId, fact: 'bound', instanceId });
    if (instance.isVerified && !row.isVerified)
      facts.push({ kind: 'fact', deploymentId, fact: 'verified', instanceId });
    if (instance.isActive && !row.isActive) facts.push({ kind: 'fact', deploymentId, fact: 'activated', instanceId });
  }
  const isYoung = view.nowMs - row.createdAtMs < rules.ageGuardMs;
  const object = view.objects?.find((each) => each.deploymentId === deploymentId);
  const mustHaveObject = row.status === 'running' || row.status === 'active';
  if (object?.state === 'exited' && row.status !== 'reserving' && row.status !== 'permitted')
    return [...facts, { kind: 'stop', deploymentId, code: 'process_exited', evidence: 'the driver saw it end' }];
  if (
    !row.isActive &&
    instance?.isActive !== true &&
    view.nowMs - row.createdAtMs >= rules.stubDeadlineMs + rules.graceMs
  )
    return [
      ...facts,
      {
        kind: 'stop',
        deploymentId,
        code: 'activation_timeout',
        evidence: 'never became active, and its own deadline has passed',
      },
    ];
  const lack = isYoung
    ? null
    : missingOf(row, { hasInstance: instance !== undefined, hasObject: object !== undefined, mustHaveObject, view });
  if (lack === null)
    return row.missing && !isBlind(row.missing.what, view)
      ? [...facts, { kind: 'clear_missing', deploymentId }]
      : facts;
  if (row.missing?.what !== lack.what) return [...facts, { kind: 'note_missing', deploymentId, what: lack.what }];
  if (view.nowMs - row.missing.sinceMs < rules.graceMs) return facts;
  return [
    ...facts,
    {
      kind: 'stop',
      deploymentId,
      code: lack.code,
      evidence: `${lack.what} missing since ${new Date(row.missing.sinceMs).toISOString()}`,
    },
  ];
}

interface Sight {
  hasInstance: boolean;
  hasObject: boolean;
  mustHaveObject: boolean;
  view: ReconcileView;
}

/** What positive looks say is not there any more, most telling first; null = nothing, or nobody could look. */
function missingOf(
  row: DeploymentRow,
  { hasInstance, hasObject, mustHaveObject, view }: Sight,
): { what: string; code: StopCode } | null {
  if (view.objects !== null && !hasObject && mustHaveObject) return { what: 'process', code: 'process_gone' };
  if (view.instances !== null && row.instanceId !== null && !hasInstance)
    return { what: 'instance', code: 'instance_unknown' };
  if (row.jobId !== null || view.chutes === null || view.rollingChuteIds === null) return null;
  if (view.rollingChuteIds.includes(row.chuteId)) return null;
  const current = view.chutes[row.chuteId];
  if (current === undefined) return { what: 'chute', code: 'chute_deleted' };
  return current === row.version ? null : { what: 'version', code: 'old_version' };
}

function isBlind(what: string, view: ReconcileView): boolean {
  if (what === 'process') return view.objects === null;
  if (what === 'instance') return view.instances === null;
  return view.chutes === null || view.rollingChuteIds === null;
}

const matches = (row: DeploymentRow, instance: RemoteInstance): boolean =>
  row.instanceId === instance.instanceId || (row.configId !== null && row.configId === instance.configId);
