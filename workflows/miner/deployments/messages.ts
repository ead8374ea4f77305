import { defineQuery, defineSignal } from '@temporalio/workflow';
import type { StopCode } from '../../domain/miner/react-to.ts';

/** Milliseconds: how long until it must be active, and how often it is looked at until then. */
export interface DeploymentSettings {
  stubDeadlineMs: number;
  pollMs: number;
}

export interface DeploymentRequest {
  deploymentId: string;
  chuteId: string;
  /** null = the chute's current version */
  version: string | null;
  onlyServerId: string | null;
}

/** Input of `deployment/<deployment_id>`. `resumeStop`: its row exists and only its removal is left to do. */
export interface DeploymentInput extends DeploymentRequest {
  settings: DeploymentSettings;
  resumeStop?: StopCode;
}

export interface DeploymentState {
  phase: 'reserving' | 'permission' | 'creating' | 'activating' | 'active' | 'terminating' | 'gone';
  serverId: string | null;
  configId: string | null;
  instanceId: string | null;
  isVerified: boolean;
  isActive: boolean;
  removal: StopCode | null;
  detail: string | null;
}

export type InstanceFact = { fact: 'bound' | 'verified' | 'activated'; instanceId: string };
export const instanceFact = defineSignal<[InstanceFact]>('instanceFact');
/** Ends the deployment; `successor` starts once its GPUs are free. */
export const stopDeployment = defineSignal<[{ code: StopCode; successor?: DeploymentRequest }]>('stopDeployment');
export const deploymentStatus = defineQuery<DeploymentState>('status');
