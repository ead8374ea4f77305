/** Workflow ids a person can type: the narrowest thing that needs its steps in order. */
export const nodeWorkflowId = (gpuUuid: string): string => `node/${gpuUuid}`;
export const nodeRegistrationWorkflowId = (taskId: string): string => `node-registration/${taskId}`;
export const sweepWorkflowId = (minerHotkey: string): string => `sweep/${minerHotkey}`;
export const imageWorkflowId = (imageId: string): string => `image/${imageId}`;
export const chuteWorkflowId = (chuteId: string): string => `chute/${chuteId}`;
export const instanceWorkflowId = (instanceId: string): string => `instance/${instanceId}`;
export const metagraphWorkflowId = (netuid: number): string => `metagraph/${netuid}`;

export const serverWorkflowId = (serverId: string): string => `server/${serverId}`;
export const deploymentWorkflowId = (deploymentId: string): string => `deployment/${deploymentId}`;
export const GEPETTO_WORKFLOW_ID = 'gepetto';
export const RECONCILE_WORKFLOW_ID = 'reconcile';

/** Namespaces keep validator, miner and auditor apart even on one Temporal server. */
export const VALIDATOR_NAMESPACE = 'validator';
export const minerNamespace = (hotkey: string): string => `miner-${hotkey.slice(0, 8)}`;
