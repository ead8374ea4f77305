/** Queues split by what their work needs: a build host, a GPU (or its CPU verifier), one slot per signing key. */
export const TASK_QUEUES = {
  validator: 'validator',
  forge: 'forge',
  gpu: 'gpu',
  chain: 'chain',
  miner: 'miner',
} as const;
