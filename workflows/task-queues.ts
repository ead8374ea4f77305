/** Queues split by what their work needs: a build host, a GPU (or its CPU verifier), one slot per signing key; `agents` for
 * calls to miners' machines, which may answer slowly on purpose and must not take the slots of anything else; `openings` for
 * answers of many megabytes, few of which fit into memory at once. */
export const TASK_QUEUES = {
  validator: 'validator',
  forge: 'forge',
  gpu: 'gpu',
  agents: 'agents',
  openings: 'openings',
  chain: 'chain',
  miner: 'miner',
} as const;
