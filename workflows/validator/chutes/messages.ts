import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { Launch } from '../../domain/chutes/decide-launch.ts';
import type { RollingUpdate } from '../../domain/chutes/plan-chute.ts';
import type { RemovalCode } from '../../domain/instances/removal.ts';

/** A chute as its workflow needs it; the whole definition is in its row. */
export interface ChuteDeployment {
  chuteId: string;
  version: string;
  targetCount: number;
}

/** A checked `POST /chutes/`. The whole definition is the blob (`ChuteDefinition` as JSON); what the workflow decides by is here. */
export interface DeployChute {
  definitionKey: string;
  definitionSha256: string;
  userId: string;
  chuteId: string;
  version: string;
  public: boolean;
  /** at the API's edge: money is dated by it */
  receivedAtMs: number;
}

/** Input of `chute/<chute_id>`. Without `resume` it starts from its rows, whatever they hold. */
export interface ChuteInput {
  chuteId: string;
  /** how often memory is compared with the rows; 5 minutes unless said */
  lookAtRowsMs?: number;
  resume?: ChuteMemory;
}

/** Everything the workflow knows; carried whole when it continues as new. */
export interface ChuteMemory {
  deployment: (ChuteDeployment & { public: boolean }) | null;
  launches: Record<string, Launch>;
  rolling: RollingUpdate | null;
  deleting: boolean;
  deleted: boolean;
  wantingSinceMs: number | null;
  announcedAtMs: number | null;
  demanded: boolean;
}

export interface LaunchRequest {
  minerHotkey: string;
  minerColdkey: string;
  minerUid: number;
  requestedAtMs: number;
  /** other miners with enough free, proven GPUs, counted at the API's edge */
  rivals?: number;
}

/** One writer per chute: permissions are given one at a time, so the target is never overshot by a race. */
export const deployChute = defineUpdate<{ version: string; created: boolean }, [DeployChute]>('deployChute');
/** Refuses `launch.not_scalable` (423) by the rules of spec/validator-api.md §2.6.1. Starts `instance/<id>`. */
export const requestLaunch = defineUpdate<{ configId: string; instanceId: string }, [LaunchRequest]>('requestLaunch');
export const setTargetCount = defineUpdate<{ targetCount: number }, [{ targetCount: number }]>('setTargetCount');
/** Returns when every instance is gone and the rows are deleted. */
export const deleteChute = defineUpdate<{ chuteId: string }, []>('deleteChute');

/** Sent by `instance/<id>` as facts; the chute re-reads its rows and repairs. */
export const instanceChanged =
  defineSignal<
    [{ instanceId: string; minerHotkey: string; status: 'verified' | 'active' | 'gone'; code: RemovalCode | null }]
  >('instanceChanged');
/** Somebody asked for the chute while nothing served it (warm-up): announce again now. */
export const demandSeen = defineSignal('demandSeen');

export interface ChuteState {
  status: 'deploying' | 'wanting' | 'satisfied' | 'updating' | 'scaling_down' | 'deleting' | 'deleted';
  deployment: ChuteDeployment | null;
  /** launches permitted and not yet gone, by instance id */
  launches: Record<string, { minerHotkey: string; version: string; active: boolean }>;
  wantingSinceMs: number | null;
}
export const chuteStatus = defineQuery<ChuteState>('status');
