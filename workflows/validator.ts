/** Bundle entry of the validator's workflows: one line a capability. */
export { imageBuild } from './validator/images/image-build.ts';
export { chuteDeployment } from './validator/chutes/chute-deployment.ts';
export { instanceLifecycle } from './validator/instances/instance-lifecycle.ts';
export { nodeRegistration } from './validator/nodes/node-registration.ts';
export { nodeLifecycle } from './validator/nodes/node-lifecycle.ts';
export { minerSweep } from './validator/nodes/miner-sweep.ts';
export { groupProof } from './validator/nodes/group-proof.ts';
export { dueSweeps } from './validator/nodes/due-sweeps.ts';
export { auditExport } from './validator/exports/audit-export.ts';
export { metagraphSync } from './validator/metagraph/metagraph-sync.ts';
export { housekeeping } from './validator/housekeeping/housekeeping.ts';
