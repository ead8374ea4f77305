/** Bundle entry of a miner's workflows: one line a capability. */
export { serverLifecycle } from './miner/servers/server-lifecycle.ts';
export { deploymentLifecycle } from './miner/deployments/deployment-lifecycle.ts';
export { gepetto } from './miner/policy/gepetto.ts';
export { reconcile } from './miner/policy/reconcile.ts';
