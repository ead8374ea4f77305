import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';

/** Input of `server/<server_id>`. Cost is per GPU and hour, micro-dollars. */
export interface ServerInput {
  serverId: string;
  name: string;
  validator: string;
  agentUrl: string;
  gpuShortRef: string;
  hourlyCostMicroUsd: number;
  verifyDeadlineMs: number;
  healthIntervalMs: number;
  /** set when a long-lived server continues as new, or when only its removal is left to do */
  resume?: { status: 'ready' | 'unknown' | 'removing'; progress: ProgressLine[] };
}

/** `timestamp` is naive UTC ISO-8601, as the add-node stream has it (spec/miner.md §2.2.2). */
export interface ProgressLine {
  timestamp: string;
  message: string;
}
export interface ServerState {
  status: 'provisioning' | 'ready' | 'unknown' | 'removing' | 'failed' | 'gone';
  progress: ProgressLine[];
  failure: string | null;
}

export const serverStatus = defineQuery<ServerState>('status');
export const setServerLock = defineUpdate<{ locked: boolean }, [{ locked: boolean }]>('setServerLock');
export const removeServer = defineSignal('removeServer');
