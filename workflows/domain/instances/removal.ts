/** Why an instance ended. The code is ours; the text is what auditors and miners read (spec/validator-internals.md §3.6). */
export const REMOVAL_REASONS = {
  claim_timeout: 'launch permission was not claimed in time',
  proof_timeout: 'PoVW: no proof arrived in time',
  proof_late: 'PoVW: proof took longer than the GPU type allows',
  proof_wrong: 'PoVW: proof verification failed',
  claim_refused: 'invalid GPU/nodes configuration provided',
  activation_timeout: 'Instance failed to verify within a reasonable amount of time',
  target_reached: 'chute already has its target count of active instances',
  silent: 'instance stopped answering and stayed silent for the grace period',
  consecutive_failures: 'max consecutive failures reached',
  miner_requested: 'miner initialized',
  scaled_down: 'Selected an unlucky instance at random: target count lowered',
  old_version: 'has an old version',
  chute_deleted: 'chute deleted',
  node_lost: 'a GPU of the instance was removed or failed re-verification',
  miner_deregistered: 'the miner left the metagraph or is blacklisted',
  operator_requested: 'removed by the operator',
  validator_fault: 'the validator could not complete the launch',
} as const;

export type RemovalCode = keyof typeof REMOVAL_REASONS;

/** The miner did nothing wrong: these never count against it. */
export const isBlameless = (code: RemovalCode): boolean =>
  [
    'miner_requested',
    'scaled_down',
    'old_version',
    'chute_deleted',
    'target_reached',
    'operator_requested',
    'validator_fault',
  ].includes(code);
