import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { AnnouncedNode } from '../../domain/nodes/node-rules.ts';
import type { ProofPluginName, ProofSummary } from '../../domain/proof/plugin.ts';

/** `announced` until its proof begins; `lost`: was verified, then its agent stayed silent; only `verified` can be claimed. */
export type NodeStatus = 'announced' | 'challenged' | 'verified' | 'failed' | 'lost' | 'deleted';

/** How GPUs are proven and watched; milliseconds. */
export interface NodePolicy {
  plugin: ProofPluginName;
  /** mean time between two sweeps of a miner's idle GPUs */
  reverifyEveryMs: number;
  /** how long an agent may be silent in its registration before its GPUs count as failed; in a sweep it is lost at once */
  silenceGraceMs: number;
  /** between attempts while it is silent; the first wait after a failure or a loss, longer with each further one */
  retryEveryMs: number;
  /** new GPUs are proven together with the miner's others within this */
  sweepAfterRegistrationMs: number;
}

/** What a proof of one GPU needs to know, as registered. */
export interface ProvableNode {
  uuid: string;
  gpuType: string;
  /** of the type's table, not of the claim */
  vramBytes: number;
  name: string;
  memory: number;
  clockRate: number;
  /** its place among the agent's devices */
  deviceIndex: number;
  host: string;
  port: number;
}

/** Input of `node-registration/<task id>`; the first update brings the nodes. */
export interface NodeRegistrationInput {
  taskId: string;
  minerHotkey: string;
  policy: NodePolicy;
}

export interface RegisterNodes {
  serverId: string | null;
  serverName: string | null;
  nodes: AnnouncedNode[];
  receivedAtMs: number;
}

export interface NodeRegistrationState {
  status: 'awaiting' | 'refused' | 'announced' | 'challenged' | 'verified' | 'failed';
  reason: string | null;
  uuids: string[];
  attempts: number;
}

/** Inserts all rows or refuses; returns once they are there. */
export const registerNodes = defineUpdate<{ uuids: string[] }, [RegisterNodes]>('registerNodes');
export const registrationStatus = defineQuery<NodeRegistrationState>('status');

/** Input of `node/<gpu uuid>`; its row exists. */
export interface NodeInput {
  node: ProvableNode;
  /** of its registration; the row has `<hotkey>::<task id>` */
  taskId: string;
  minerHotkey: string;
  serverId: string | null;
  policy: NodePolicy;
  /** set when a registration proves this GPU together with others, and will signal how it ended */
  awaitsRegistration: boolean;
  /** set when it continues as new */
  resume?: NodeState;
}

export interface NodeState {
  status: NodeStatus;
  reason: string | null;
  /** proofs that ended, the registration's included */
  attempts: number;
  /** proofs that did not hold, or were not made, since the last one that did */
  failures: number;
  lastVerifiedAtMs: number | null;
  /** the last proof could not be finished by the validator */
  isUnclear: boolean;
  proof: ProofSummary | null;
}

/** How a proof ended. `silent`: the agent did not answer; `unclear`: the fault is the validator's, nobody is to blame. */
export type VerificationOutcome =
  | { kind: 'verified'; atMs: number; summary: ProofSummary }
  | { kind: 'failed'; reason: string; atMs: number; summary: ProofSummary | null }
  | { kind: 'silent'; reason: string }
  | { kind: 'unclear'; reason: string };

export const nodeStatus = defineQuery<NodeState>('status');
/** From the registration that proved this GPU with its neighbours. */
export const proofConcluded = defineSignal<[VerificationOutcome]>('proofConcluded');
/** What came of one GPU in a sweep; the sweep has written its row. `taskId`: the registration that was proven. */
export interface SweptNode {
  uuid: string;
  taskId: string;
  outcome: VerificationOutcome;
}
/** From a sweep that this GPU was part of. */
export const swept = defineSignal<[SweptNode]>('swept');
/** Ask for a sweep now instead of at the next moment drawn. */
export const verifyNow = defineSignal<[]>('verifyNow');
/** Refused with `resource.conflict` while an instance runs on it; returns once the row is gone. */
export const deleteNode = defineUpdate<{ deleted: true }, [{ minerHotkey: string }]>('deleteNode');

/** A GPU that a sweep has reserved, and whose it is. */
export interface IdleNode extends ProvableNode {
  taskId: string;
  minerHotkey: string;
  serverId: string | null;
}

/** Input of `sweep/<hotkey>`: the miner whose moment has come, then those that share its window. */
export interface MinerSweepInput {
  minerHotkeys: string[];
  policy: NodePolicy;
  /** A group that has not filled its memory by then has missed the window; four minutes where it is not said. */
  readyWithinMs?: number;
}
export interface MinerSweepState {
  status: 'reserving' | 'filling' | 'walking' | 'concluded';
  /** whose GPUs share the window */
  miners: number;
  gpus: number;
  /** GPUs of one type on one host: they answer, and are timed, together */
  groups: number;
  /** groups that have filled their memory and wait for the others */
  ready: number;
  verified: number;
  failed: number;
  lost: number;
  /** the validator's own fault: nothing was decided */
  unclear: number;
}
export const sweepStatus = defineQuery<MinerSweepState>('status');
/** From a group to its sweep: every GPU of it has committed. */
export const groupReady = defineSignal<[{ group: number }]>('groupReady');
/** From a group to its sweep: it has walked, from this moment. */
export const groupWalked = defineSignal<[{ group: number; startedAtMs: number }]>('groupWalked');

/** Input of a sweep's child `sweep/<hotkey>/<sweep id>/<group>`. */
export interface GroupProofInput {
  group: number;
  nodes: ProvableNode[];
  minerHotkey: string;
  plugin: ProofPluginName;
}
/** From the sweep: every group has committed, the walks begin; or they have begun, and this one comes too late. */
export const walkNow = defineSignal<[{ mayWalk: boolean }]>('walkNow');
