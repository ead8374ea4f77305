import { defineQuery, defineSignal } from '@temporalio/workflow';
import type { MinerEvent, StopCode } from '../../domain/miner/react-to.ts';
import type { ReconcileAction, ReconcileRules } from '../../domain/miner/plan-reconcile.ts';
import type { DeploymentSettings } from '../deployments/messages.ts';

export interface GepettoInput {
  autoscaleIntervalMs: number;
  deployment: DeploymentSettings;
  /** set when it continues as new */
  carry?: GepettoState;
}

/** All moments are milliseconds since the epoch. */
export interface GepettoState {
  queue: MinerEvent[];
  /** refused chutes: how often in a row, and when they may be asked for again */
  refusals: Record<string, { count: number; retryAtMs: number }>;
  /** started here, and their rows not known to exist yet: they count as pending */
  launching: Record<string, { chuteId: string; startedAtMs: number }>;
  /** events of the last seconds, so that one told twice is acted on once */
  seen: Record<string, number>;
  nextTickAtMs: number;
  mustRefresh: boolean;
}

export const minerEvent = defineSignal<[MinerEvent]>('minerEvent');
/** The socket is (again) connected: whatever was said meanwhile is not known. */
export const resync = defineSignal('resync');
/** GPUs became free or known: look for work now. */
export const capacityChanged = defineSignal('capacityChanged');
export const deploymentReserved = defineSignal<[{ deploymentId: string }]>('deploymentReserved');
export const deploymentEnded =
  defineSignal<[{ deploymentId: string; chuteId: string; code: StopCode; wasActive: boolean }]>('deploymentEnded');
export const gepettoStatus = defineQuery<GepettoState>('status');

export interface ReconcileInput {
  intervalMs: number;
  rules: ReconcileRules;
  deployment: DeploymentSettings;
}
export const reconcileNow = defineSignal('reconcileNow');
export interface ReconcileState {
  ranAtMs: number | null;
  lastActions: ReconcileAction[];
  lastError: string | null;
}
export const reconcileStatus = defineQuery<ReconcileState>('status');
