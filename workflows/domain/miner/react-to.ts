import type { MinerEventData, MinerEventReason } from '../protocol/events.ts';

/** A miner event as it came over the socket. */
export type MinerEvent = {
  [Reason in MinerEventReason]: { reason: Reason; data: MinerEventData[Reason] };
}[MinerEventReason];

/** Why a deployment ends, on the miner's side. */
export type StopCode =
  | 'chute_deleted'
  | 'old_version'
  | 'rolling_update'
  | 'instance_deleted'
  | 'instance_unknown'
  | 'job_deleted'
  | 'operator_requested'
  | 'server_removed'
  | 'process_exited'
  | 'process_gone'
  | 'launch_refused'
  | 'no_gpus'
  | 'create_failed'
  | 'activation_timeout'
  | 'chute_unknown'
  | 'orphaned';

export interface DeploymentView {
  deploymentId: string;
  chuteId: string;
  version: string;
  serverId: string;
  configId: string | null;
  instanceId: string | null;
  jobId: string | null;
  isTerminating: boolean;
}

export interface PolicyView {
  hotkey: string;
  /** local version of the event's chute; null = not known here */
  chuteVersion: string | null;
  deployments: readonly DeploymentView[];
}

export type Reaction =
  | { kind: 'ignore'; reason: string }
  | { kind: 'mark_gpu_verified'; gpuId: string }
  | { kind: 'import_chute'; chuteId: string; version: string }
  | { kind: 'import_images' }
  | { kind: 'forget_chute'; chuteId: string; version: string }
  | { kind: 'start'; chuteId: string; version: string | null; onlyServerId: string | null }
  | { kind: 'stop'; deploymentId: string; code: StopCode }
  | { kind: 'replace'; deploymentId: string; code: StopCode; chuteId: string; version: string; onlyServerId: string }
  | { kind: 'instance_fact'; deploymentId: string; fact: 'bound' | 'verified' | 'activated'; instanceId: string };

export const MINER_EVENT_REASONS = [
  'gpu_verified',
  'chute_created',
  'chute_updated',
  'chute_deleted',
  'bounty_change',
  'image_created',
  'image_updated',
  'image_deleted',
  'instance_created',
  'instance_verified',
  'instance_activated',
  'instance_deleted',
  'rolling_update',
  'job_created',
  'job_deleted',
] as const satisfies readonly MinerEventReason[];

const ignore = (reason: string): Reaction[] => [{ kind: 'ignore', reason }];

/** What a miner does about one event, in order (spec/miner.md §5.2). Never empty: doing nothing has a reason. */
export function reactTo(event: MinerEvent, view: PolicyView): Reaction[] {
  const live = view.deployments.filter((deployment) => !deployment.isTerminating);
  const isOwn = (data: { miner_hotkey: string }): boolean => data.miner_hotkey === view.hotkey;
  switch (event.reason) {
    case 'gpu_verified':
      return isOwn(event.data) ? [{ kind: 'mark_gpu_verified', gpuId: event.data.gpu_id }] : ignore('another miner');
    case 'chute_created': {
      const { chute_id: chuteId, version, job_only: isJobOnly } = event.data;
      const imported: Reaction = { kind: 'import_chute', chuteId, version };
      const runs = live.some((deployment) => deployment.chuteId === chuteId && deployment.jobId === null);
      return isJobOnly || runs ? [imported] : [imported, { kind: 'start', chuteId, version, onlyServerId: null }];
    }
    case 'chute_updated':
      return [{ kind: 'import_chute', chuteId: event.data.chute_id, version: event.data.version }];
    case 'chute_deleted': {
      const { chute_id: chuteId, version } = event.data;
      const stops = live
        .filter((deployment) => deployment.chuteId === chuteId && deployment.version === version)
        .map((deployment): Reaction => ({
          kind: 'stop',
          deploymentId: deployment.deploymentId,
          code: 'chute_deleted',
        }));
      return [...stops, { kind: 'forget_chute', chuteId, version }];
    }
    case 'bounty_change': {
      const { chute_id: chuteId } = event.data;
      if (view.chuteVersion === null) return ignore('chute is not known here');
      if (live.some((deployment) => deployment.chuteId === chuteId)) return ignore('already runs here');
      return [{ kind: 'start', chuteId, version: null, onlyServerId: null }];
    }
    case 'image_created':
    case 'image_deleted':
      return ignore('images are fetched when a chute needs them');
    case 'image_updated':
      return [{ kind: 'import_images' }];
    case 'instance_created':
      return isOwn(event.data) ? factFor(live, 'bound', event.data) : ignore('another miner');
    case 'instance_verified':
      return isOwn(event.data) ? factFor(live, 'verified', event.data) : ignore('another miner');
    case 'instance_activated':
      return isOwn(event.data) ? factFor(live, 'activated', event.data) : ignore('another miner');
    case 'instance_deleted': {
      if (!isOwn(event.data)) return ignore('another miner');
      const deployment = ofInstance(live, event.data);
      return deployment === undefined
        ? ignore('no live deployment of that instance')
        : [{ kind: 'stop', deploymentId: deployment.deploymentId, code: 'instance_deleted' }];
    }
    case 'rolling_update': {
      if (!isOwn(event.data)) return ignore('another miner');
      const { chute_id: chuteId, new_version: version } = event.data;
      const imported: Reaction = { kind: 'import_chute', chuteId, version };
      const old = ofInstance(live, event.data);
      if (old === undefined || old.jobId !== null || old.version === version) return [imported];
      const { deploymentId, serverId: onlyServerId } = old;
      return [imported, { kind: 'replace', deploymentId, code: 'rolling_update', chuteId, version, onlyServerId }];
    }
    case 'job_created': {
      // Both spellings: the reference sends one and reads the other (spec/miner.md §3.1).
      const excluded = [...(event.data.exclude ?? []), ...(event.data.excluded ?? [])];
      return ignore(
        excluded.includes(view.hotkey) ? 'this miner is excluded from the job' : 'this miner takes no jobs',
      );
    }
    case 'job_deleted': {
      const deployment = live.find((each) => each.jobId === event.data.job_id);
      return deployment === undefined
        ? ignore('the job does not run here')
        : [{ kind: 'stop', deploymentId: deployment.deploymentId, code: 'job_deleted' }];
    }
  }
}

function ofInstance(
  live: readonly DeploymentView[],
  { instance_id: instanceId, config_id: configId }: { instance_id: string; config_id?: string },
): DeploymentView | undefined {
  return live.find(
    (each) =>
      each.instanceId === instanceId ||
      (configId !== undefined && each.configId !== null && each.configId === configId),
  );
}

function factFor(
  live: readonly DeploymentView[],
  fact: 'bound' | 'verified' | 'activated',
  data: { instance_id: string; config_id?: string },
): Reaction[] {
  const deployment = ofInstance(live, data);
  return deployment === undefined
    ? ignore('no live deployment of that instance')
    : [{ kind: 'instance_fact', deploymentId: deployment.deploymentId, fact, instanceId: data.instance_id }];
}
