import type { ImageArtifact } from '../../../workflows/domain/protocol/image-artifact.ts';
import type { RuntimeEnvironment } from '../../../workflows/domain/protocol/runtime-env.ts';

/** A share of the host; null = the host's size is not known, so no limit is set. */
export interface ComputeLimits {
  cpus: number | null;
  memoryGb: number | null;
  pids: number;
}

export interface CreateInput {
  deploymentId: string;
  imageId: string;
  artifact: ImageArtifact;
  /** all but what the driver itself decides: bind addresses, folders */
  env: Omit<
    RuntimeEnvironment,
    | 'CANOPY_GRAVAL'
    | 'CANOPY_BIND_HOST'
    | 'CANOPY_BIND_PORT'
    | 'CANOPY_BIND_LOG_PORT'
    | 'CANOPY_APP_DIR'
    | 'CANOPY_WORK_DIR'
    | 'HF_HOME'
  >;
  ports: { primary: number; logging: number };
  limits: ComputeLimits;
  signal?: AbortSignal;
}

/** Plain JSON that finds the object again from any process; stored in the deployment's row. */
export type ComputeHandle =
  | { driver: 'process'; pid: number; startTicks: string; bootId: string }
  | { driver: 'podman'; containerName: string };

/** `unknown` = could not look: never a reason to remove anything. `absent` = looked, and it is not there. */
export type ComputeState =
  | { state: 'running' }
  | { state: 'exited'; code: number | null }
  | { state: 'absent' }
  | { state: 'unknown'; why: string };

export interface ComputeObjectView {
  deploymentId: string;
  state: 'running' | 'exited' | 'unknown';
  createdAtMs: number;
}

/** Runs instance runtimes on a server. Every operation is idempotent by deployment id. */
export interface ComputeDriver {
  readonly name: 'process' | 'podman';
  /** Starts it, or finds the one already started for this deployment. */
  create(input: CreateInput): Promise<ComputeHandle>;
  inspect(deploymentId: string): Promise<ComputeState>;
  /** Everything of this miner on the host, ended ones not yet removed included. Throws when it cannot look. */
  list(): Promise<ComputeObjectView[]>;
  /** SIGTERM, `graceS` seconds, SIGKILL, and its files are gone. Returns only when nothing is left. */
  stop(deploymentId: string, graceS: number, signal?: AbortSignal): Promise<void>;
  /** The newest lines of its output. */
  logs(deploymentId: string, maxBytes: number): Promise<string>;
}
