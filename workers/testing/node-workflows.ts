/** Bundle entry of the node tests: the workflows that own GPUs, and nothing else. */
export { nodeRegistration } from '../../workflows/validator/nodes/node-registration.ts';
export { nodeLifecycle } from '../../workflows/validator/nodes/node-lifecycle.ts';
