import { join } from 'node:path';
import type { NetworkState } from './network-state.ts';

/** Everything the local network's programs are told, program by program. One place, so that compose can be held against it. */
export interface ProgramPlan {
  name: string;
  entry: string;
  env: Record<string, string>;
  /** answers below 500 when it serves */
  readyUrl: string;
}

/** One line of the landing page's "what runs" (CANOPY_SERVICES). */
export interface ListedService {
  name: string;
  kind: string;
  url?: string;
  healthUrl: string;
}

export interface PlanInput {
  state: NetworkState;
  dataDir: string;
  hotkeys: { validator: string; miner: string };
  urls: {
    validatorDb: string;
    minerDb: string;
    s3: string;
    public: string;
    temporalUi: string;
    registry: string | null;
  };
  compute: 'podman' | 'process';
  runtimeDir: string | null;
  containerEnv: Record<string, string>;
  simulatedGpus: string | null;
  services: ListedService[];
}

export const BUCKET = 'canopy';
export const S3_ACCESS_KEY = 'canopy';

/** Short deadlines: on one machine a step that takes minutes is broken, and the operator is looking. */
const LOCAL_DEADLINES = {
  CANOPY_CLAIM_DEADLINE_MS: '60000',
  CANOPY_PROOF_DEADLINE_MS: '60000',
  CANOPY_ACTIVATION_DEADLINE_MS: '120000',
  CANOPY_PROBE_INTERVAL_MS: '5000',
  CANOPY_SILENCE_GRACE_MS: '20000',
  CANOPY_BUILD_DEADLINE_MS: '900000',
};

export function planPrograms(input: PlanInput): ProgramPlan[] {
  const { state, dataDir, hotkeys, urls, compute, containerEnv } = input;
  const { ports, secrets, seeds } = state;
  const local = (port: number): string => `http://127.0.0.1:${port}`;
  const validator: Record<string, string> = {
    CANOPY_DATABASE_URL: urls.validatorDb,
    CANOPY_TEMPORAL_ADDRESS: `127.0.0.1:${ports.temporal}`,
    CANOPY_TEMPORAL_UI_URL: urls.temporalUi,
    CANOPY_S3_ENDPOINT: urls.s3,
    CANOPY_S3_BUCKET: BUCKET,
    CANOPY_S3_ACCESS_KEY: S3_ACCESS_KEY,
    CANOPY_S3_SECRET_KEY: secrets.s3,
    CANOPY_REGISTRY: urls.registry ?? '',
    CANOPY_REGISTRY_INSECURE: 'true',
    CANOPY_PUBLIC_URL: urls.public,
    CANOPY_VALIDATOR_SEED: seeds.validator,
    CANOPY_METAGRAPH_FILE: join(dataDir, 'metagraph.json'),
    CANOPY_KEY_PEPPER: secrets.keyPepper,
    CANOPY_SECRETS_KEY: secrets.secretsKey,
    CANOPY_LAUNCH_KEY: secrets.launchKey,
    CANOPY_ALLOW_PRIVATE_HOSTS: 'true',
    CANOPY_FORGE: compute === 'podman' ? 'buildah' : 'process',
    CANOPY_PROOF: 'simulated',
    CANOPY_API_UPSTREAM: local(ports.api),
    CANOPY_SOCKETS_UPSTREAM: local(ports.sockets),
    CANOPY_SPOOL_DIR: join(dataDir, 'spool'),
    CANOPY_WORK_DIR: join(dataDir, 'work'),
    CANOPY_NEW_USER_PERMISSIONS: '2048', // deploy public chutes: this network's developers are its owners
    CANOPY_SIGNUPS_PER_IP: '1000', // everybody here comes from one address
    ...LOCAL_DEADLINES,
  };
  const miner: Record<string, string> = {
    CANOPY_DATABASE_URL: urls.minerDb,
    CANOPY_TEMPORAL_ADDRESS: `127.0.0.1:${ports.temporal}`,
    CANOPY_MINER_SEED: seeds.miner,
    CANOPY_SECRETS_KEY: secrets.minerSecretsKey,
    CANOPY_VALIDATOR_HOTKEY: hotkeys.validator,
    CANOPY_VALIDATOR_URL: urls.public,
    CANOPY_SOCKET_URL: urls.public,
    CANOPY_COMPUTE: compute,
    CANOPY_PODMAN_NETWORK: 'host', // this network lives on loopback
    CANOPY_REGISTRY: urls.registry ?? '',
    CANOPY_RUNTIME_DIR: input.runtimeDir ?? '',
    CANOPY_WORK_DIR: join(dataDir, 'miner'),
    CANOPY_RECONCILE_INTERVAL_MS: '10000',
    CANOPY_AUTOSCALE_INTERVAL_MS: '5000',
    ...containerEnv,
  };
  const agent: Record<string, string> = {
    CANOPY_MINER_HOTKEY: hotkeys.miner,
    CANOPY_VALIDATOR_HOTKEYS: hotkeys.validator,
    CANOPY_WORK_DIR: join(dataDir, 'agent'),
    ...(input.simulatedGpus ? { CANOPY_SIMULATED_GPUS: input.simulatedGpus } : {}),
  };
  const http = (name: string, entry: string, env: Record<string, string>, port: number, path: string): ProgramPlan => ({
    name,
    entry,
    env: { ...env, CANOPY_LISTEN_HOST: '127.0.0.1', CANOPY_LISTEN_PORT: String(port) },
    readyUrl: `${local(port)}${path}`,
  });
  const worker = (name: string, env: Record<string, string>, port: number): ProgramPlan => ({
    name,
    entry: `workers/${name}.ts`,
    env: { ...env, CANOPY_METRICS_PORT: String(port) },
    readyUrl: `${local(port)}/health`,
  });
  const plans = [
    worker('validator-worker', validator, ports.validatorWorkerMetrics),
    http('validator-api', 'api/validator/main.ts', validator, ports.api, '/ping'),
    http('sockets', 'api/sockets/main.ts', validator, ports.sockets, '/health'),
    http('gateway', 'api/gateway/main.ts', validator, ports.gateway, '/_gateway/health'),
    worker('forge-worker', { ...validator, ...containerEnv }, ports.forgeWorkerMetrics),
    worker('gpu-worker', validator, ports.gpuWorkerMetrics),
    http('agent', 'api/agent/main.ts', agent, ports.agent, '/ping'),
    http('miner-api', 'api/miner/main.ts', miner, ports.minerApi, '/ping'),
    worker('miner-worker', miner, ports.minerWorkerMetrics),
  ];
  const programs = plans.map(({ name, readyUrl }): ListedService => ({ name, kind: 'program', healthUrl: readyUrl }));
  for (const plan of plans) {
    if (plan.name === 'validator-api') plan.env.CANOPY_SERVICES = JSON.stringify([...input.services, ...programs]);
  }
  return plans;
}

/** What proves, checks proofs, or starts what proves; the others need not wait until `graval` is built. */
export const usesGraval = ({ name }: ProgramPlan): boolean => ['agent', 'gpu-worker', 'miner-worker'].includes(name);
export const withGraval = (plan: ProgramPlan, graval: string | null): ProgramPlan =>
  graval === null ? plan : { ...plan, env: { ...plan.env, CANOPY_GRAVAL: graval } };
