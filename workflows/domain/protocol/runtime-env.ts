/**
 * Environment the compute driver gives the instance runtime (spec/sdk-and-runtime.md §3.1), the same for `process`,
 * `podman` and `kubernetes`. The runtime is injected: a read-only mount of the Node binary and the runtime's files at
 * `RUNTIME_MOUNT`, entry point `RUNTIME_MOUNT/node RUNTIME_MOUNT/app/api/instance/main.ts`; what follows is the
 * image's own command, which the runtime starts as its child.
 */
export const RUNTIME_MOUNT = '/canopy';
/** The program `graval` in a container: a read-only mount of one file, where the server has it. */
export const GRAVAL_MOUNT = '/canopy-graval';

export interface RuntimeEnvironment {
  CHUTES_LAUNCH_JWT: string;
  CHUTES_EXTERNAL_HOST: string;
  /** external port mapped to 8000 / 8001 */
  CHUTES_PORT_PRIMARY: string;
  CHUTES_PORT_LOGGING: string;
  CHUTES_EXECUTION_CONTEXT: 'REMOTE';
  /** comma list of `GPU-<dashed uuid>` */
  NVIDIA_VISIBLE_DEVICES: string;
  CHUTES_NVIDIA_DEVICES: string;
  HF_HOME: string;
  /** ss58 addresses; the runtime checks signatures of its log server against them */
  CANOPY_MINER_SS58: string;
  CANOPY_VALIDATOR_SS58: string;
  /** ports the runtime binds inside its own network; equal to the external ones for the `process` driver */
  CANOPY_BIND_PORT: string;
  CANOPY_BIND_LOG_PORT: string;
  /** `127.0.0.1` for the process driver, `0.0.0.0` in a container */
  CANOPY_BIND_HOST: string;
  /** JSON DeviceInfo[]: what the agent knows of the assigned GPUs (simulated ones included) */
  CANOPY_DEVICES: string;
  /** JSON string[]: the child's command; `[]` = `chutes run <ref_str> --dev …`, the reference SDK's way */
  CANOPY_COMMAND: string;
  /** where the chute's code file is written before the child starts, e.g. `/app` */
  CANOPY_APP_DIR: string;
  /** writable directory for logs and temporary files, e.g. `/tmp` */
  CANOPY_WORK_DIR: string;
  /** path of the program `graval`, which proves the GPUs; absent: TypeScript does */
  CANOPY_GRAVAL?: string;
  /** seconds in-flight requests get after SIGTERM; default 30 */
  CANOPY_DRAIN_SECONDS?: string;
}

/**
 * What the child gets: nothing of the launch, but `PORT` and `HOST` to listen on (loopback; in a container's own
 * network too), the chute's secrets, `CHUTES_EXECUTION_CONTEXT`, `HF_HOME`, `NVIDIA_VISIBLE_DEVICES`, PATH, HOME, LANG.
 */
export const CHILD_READY_PATHS = ['/health', '/v1/models', '/'] as const;
