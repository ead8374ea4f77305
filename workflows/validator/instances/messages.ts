import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import type { RemovalCode } from '../../domain/instances/removal.ts';
import type { OpeningsRefs, ProofSession } from '../../domain/proof/plugin.ts';
import type { DeviceInfo, PortMapping } from '../../domain/protocol/launch.ts';

/** Deadlines in milliseconds; every one ends in a recorded removal. */
export interface InstanceDeadlines {
  claimMs: number;
  proofMs: number;
  activationMs: number;
  probeIntervalMs: number;
  silenceGraceMs: number;
  /** what requests under way get when a serving instance is removed without its fault; absent or 0: nothing */
  drainMs?: number;
}

/** Input of `instance/<instance_id>`; its launch_configs row exists. */
export interface InstanceInput {
  instanceId: string;
  configId: string;
  chuteId: string;
  chuteVersion: string;
  minerHotkey: string;
  permittedAtMs: number;
  deadlines: InstanceDeadlines;
  /** set when a long-lived instance continues as new */
  resume?: InstanceState;
}

export type InstanceStatus =
  | 'permitted'
  | 'claiming'
  | 'claimed'
  | 'committed'
  | 'walked'
  | 'proving'
  | 'verified'
  | 'active'
  | 'disabled'
  | 'draining'
  | 'gone';

export interface InstanceState {
  status: InstanceStatus;
  session: ProofSession | null;
  claimedAtMs: number | null;
  /** when the validator's last proof answer left, for the timed steps */
  answeredAtMs: number | null;
  activatedAtMs: number | null;
  verifiedAtMs?: number;
  /** measured at the edge, for the record of the proof */
  fillMs?: number;
  walkMs?: number;
  /** by GPU, SHA-256 of the openings that may be stored: one content each */
  openings?: Record<string, string>;
  /** how long an active instance has been seen not to serve; time nobody looked does not count */
  silentMs?: number;
  removal: { code: RemovalCode; evidence: Record<string, unknown> } | null;
}

export interface ClaimInput {
  gpus: DeviceInfo[];
  host: string;
  portMappings: PortMapping[];
  transport: string;
  tlsCertPem: string | null;
  transportPublicKey: string | null;
  receivedAtMs: number;
}

/** Every update is idempotent by its update id; refused with a `REFUSALS` code when its moment is not now. */
export const claimInstance = defineUpdate<{ session: ProofSession }, [ClaimInput]>('claimInstance');
export const submitCommit = defineUpdate<{ nonce2: string }, [{ roots: Record<string, string>; receivedAtMs: number }]>(
  'submitCommit',
);
export const submitWalk = defineUpdate<
  { samples: NonNullable<ProofSession['samples']> },
  [{ walks: Record<string, { digest: string; trace_root: string }>; receivedAtMs: number }]
>('submitWalk');
/** Asked before openings are stored. 400 while none are awaited, 404 for a GPU of no concern here, 409 for a second content. */
export const announceOpenings = defineUpdate<void, [{ gpuUuid: string; sha256: string }]>('announceOpenings');
export const submitProof = defineUpdate<
  { verifiedAt: string },
  [{ openings: OpeningsRefs | null; receivedAtMs: number }]
>('submitProof');
export const activateInstance = defineUpdate<{ activatedAt: string }, []>('activateInstance');
/** Returns once the instance is gone and its GPUs are free. */
export const removeInstance = defineUpdate<
  { code: RemovalCode },
  [{ code: RemovalCode; evidence?: Record<string, unknown> }]
>('removeInstance');
/** The same without waiting, for workflows. */
export const requestRemoval =
  defineSignal<[{ code: RemovalCode; evidence?: Record<string, unknown> }]>('requestRemoval');
export const instanceStatus = defineQuery<InstanceState>('status');
