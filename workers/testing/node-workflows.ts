/** Bundle entry of the node tests: the workflows that own GPUs, and nothing else. */
export { nodeRegistration } from '../../workflows/validator/nodes/node-registration.ts';
export { nodeLifecycle } from '../../workflows/validator/nodes/node-lifecycle.ts';
export { minerSweep } from '../../workflows/validator/nodes/miner-sweep.ts';
export { groupProof } from '../../workflows/validator/nodes/group-proof.ts';
export { dueSweeps } from '../../workflows/validator/nodes/due-sweeps.ts';
