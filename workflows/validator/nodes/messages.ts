import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { AnnouncedNode } from '../../domain/nodes/node-rules.ts';
import type { ProofPluginName, ProofSummary } from '../../domain/proof/plugin.ts';

/** `announced` until its proof begins; `lost`: was verified, then its agent stayed silent; only `verified` can be claimed. */
export type NodeStatus = 'announced' | 'challenged' | 'verified' | 'failed' | 'lost' | 'deleted';

/** How GPUs are proven and watched; milliseconds. */
export interface NodePolicy {
  plugin: ProofPluginName;
  reverifyEveryMs: number;
  /** how long an agent may be silent before its GPU counts as failed (first proof) or lost (later ones) */
  silenceGraceMs: number;
  /** between attempts while it is silent */
  retryEveryMs: number;
  /** between attempts once it is lost: it may come back */
  lostRetryEveryMs: number;
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
  /** proofs begun, the registration's included */
  attempts: number;
  lastVerifiedAtMs: number | null;
  /** since when its agent has not answered */
  silentSinceMs: number | null;
  /** the last proof could not be finished by the validator */
  isUnclear: boolean;
  proof: ProofSummary | null;
}

/** How a proof ended. `silent`: the agent did not answer; `unclear`: the fault is the validator's, nobody is to blame. */
export type VerificationOutcome =
  | { kind: 'verified'; atMs: number; summary: ProofSummary }
  | { kind: 'failed'; reason: string; summary: ProofSummary | null }
  | { kind: 'silent' | 'unclear'; reason: string };

export const nodeStatus = defineQuery<NodeState>('status');
/** From the registration that proved this GPU with its neighbours. */
export const proofConcluded = defineSignal<[VerificationOutcome]>('proofConcluded');
/** Prove again now instead of at the next period. */
export const verifyNow = defineSignal<[]>('verifyNow');
/** Refused with `resource.conflict` while an instance runs on it; returns once the row is gone. */
export const deleteNode = defineUpdate<{ deleted: true }, [{ minerHotkey: string }]>('deleteNode');
