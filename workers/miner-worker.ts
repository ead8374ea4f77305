import { createServer } from 'node:net';
import { mkdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { loadHotkey } from '../activities/clients/hotkey.ts';
import { createLogger } from '../activities/clients/log.ts';
import { connectDatabase } from '../activities/clients/postgres.ts';
import { findProverEngine } from '../activities/clients/prover-engine.ts';
import { SecretBox } from '../activities/clients/secret-box.ts';
import { connectTemporal } from '../activities/clients/temporal.ts';
import { ArchiveCache } from '../activities/miner/compute/archive-cache.ts';
import type { ComputeDriver } from '../activities/miner/compute/compute-driver.ts';
import { createPodmanDriver } from '../activities/miner/compute/podman-driver.ts';
import { createProcessDriver } from '../activities/miner/compute/process-driver.ts';
import { createDeploymentActivities } from '../activities/miner/deployments/deployment-activities.ts';
import { DeploymentStore } from '../activities/miner/deployments/deployment-store.ts';
import { connectMinerSocket } from '../activities/miner/events/socket-client.ts';
import { ServerStore } from '../activities/miner/inventory/server-store.ts';
import { MinerWorkflows } from '../activities/miner/miner-workflows.ts';
import { createPolicyActivities } from '../activities/miner/policy/policy-activities.ts';
import { createReconcileActivities } from '../activities/miner/policy/reconcile-activities.ts';
import { RemoteViewStore } from '../activities/miner/policy/remote-view-store.ts';
import { createServerActivities } from '../activities/miner/servers/server-activities.ts';
import { AgentClient } from '../activities/miner/validator/agent-client.ts';
import { RemoteLists } from '../activities/miner/validator/remote-lists.ts';
import { ValidatorClient } from '../activities/miner/validator/validator-client.ts';
import { minerNamespace } from '../workflows/ids.ts';
import { TASK_QUEUES } from '../workflows/task-queues.ts';
import type { GepettoInput, ReconcileInput } from '../workflows/miner/policy/messages.ts';
import { workflowBundle } from './bundle.ts';
import { loadMinerConfig, type MinerConfig } from './config/miner.ts';
import { runWorkers } from './run-worker.ts';

const PROGRAM = 'miner-worker';
/** A thing must be this old before reconcile touches it, and its absence must last this long. */
const RECONCILE_AGE_GUARD_MS = 60_000;
const RECONCILE_GRACE_MS = 60_000;
const DEPLOYMENT_POLL_MS = 5000;

const config = loadMinerConfig(process.env);
const log = createLogger(PROGRAM, config.CANOPY_LOG_LEVEL);
const workDir = resolve(config.CANOPY_WORK_DIR);
await mkdir(workDir, { recursive: true });
await findProverEngine(config.CANOPY_GRAVAL ?? null); // found to be wrong here, not by every launch
const hotkey = await loadHotkey(config.CANOPY_MINER_SEED.reveal());
const namespace = config.CANOPY_TEMPORAL_NAMESPACE ?? minerNamespace(hotkey.address);
const db = connectDatabase({
  url: config.CANOPY_DATABASE_URL.reveal(),
  poolMax: config.CANOPY_DATABASE_POOL,
  applicationName: PROGRAM,
});
const temporal = await connectTemporal(config.CANOPY_TEMPORAL_ADDRESS, namespace);

const validator = new ValidatorClient({ baseUrl: config.CANOPY_VALIDATOR_URL, hotkey });
const agent = new AgentClient({ hotkey });
const workflows = new MinerWorkflows(temporal.client);
const servers = new ServerStore(db);
const remote = new RemoteViewStore(db, config.CANOPY_VALIDATOR_HOTKEY);
const lists = new RemoteLists({ validator, store: remote });
const deployments = new DeploymentStore({
  db,
  box: new SecretBox(config.CANOPY_SECRETS_KEY.reveal()),
  servers,
  validator: config.CANOPY_VALIDATOR_HOTKEY,
  ports: portRange(config.CANOPY_PORT_RANGE),
  isPortFree,
});
const driver = computeDriver(config, validator);
const settings = { stubDeadlineMs: config.CANOPY_STUB_DEADLINE_MS, pollMs: DEPLOYMENT_POLL_MS };
const gepetto: GepettoInput = { autoscaleIntervalMs: config.CANOPY_AUTOSCALE_INTERVAL_MS, deployment: settings };
const reconcile: ReconcileInput = {
  intervalMs: config.CANOPY_RECONCILE_INTERVAL_MS,
  deployment: settings,
  rules: {
    ageGuardMs: RECONCILE_AGE_GUARD_MS,
    graceMs: RECONCILE_GRACE_MS,
    stubDeadlineMs: config.CANOPY_STUB_DEADLINE_MS,
  },
};

await workflows.ensurePolicy(gepetto, reconcile);
const socket = connectMinerSocket({
  url: config.CANOPY_SOCKET_URL,
  hotkey,
  log,
  onConnected: () => workflows.ensurePolicy(gepetto, reconcile),
  onEvent: (event) => workflows.hear(event, gepetto),
});

await runWorkers({
  program: PROGRAM,
  temporalAddress: config.CANOPY_TEMPORAL_ADDRESS,
  namespace,
  log,
  metricsPort: config.CANOPY_METRICS_PORT,
  worker: [
    {
      taskQueue: TASK_QUEUES.miner,
      workflowBundle: await workflowBundle(
        join(import.meta.dirname, '../workflows/miner.ts'),
        join(workDir, 'bundles'),
      ),
      activities: {
        ...createDeploymentActivities({
          deployments,
          remote,
          lists,
          validator,
          driver,
          minerHotkey: hotkey.address,
          validatorHotkey: config.CANOPY_VALIDATOR_HOTKEY,
        }),
        ...createPolicyActivities({ deployments, servers, remote, lists, workflows, minerHotkey: hotkey.address, log }),
        ...createReconcileActivities({ deployments, remote, lists, validator, driver, workflows, log }),
        ...createServerActivities({ servers, deployments, agent, validator, workflows, settings }),
      },
    },
  ],
  close: async () => {
    socket.close();
    await temporal.close();
    await db.destroy();
  },
});

function computeDriver(
  {
    CANOPY_COMPUTE,
    CANOPY_RUNTIME_DIR,
    CANOPY_REGISTRY,
    CANOPY_PODMAN_NETWORK,
    CANOPY_PODMAN_GPUS,
    CANOPY_GRAVAL,
  }: MinerConfig,
  source: ValidatorClient,
): ComputeDriver {
  const graval = CANOPY_GRAVAL ? { graval: CANOPY_GRAVAL } : {};
  if (CANOPY_COMPUTE === 'podman') {
    if (!CANOPY_RUNTIME_DIR)
      throw new Error('Configuration is not usable:\n  CANOPY_RUNTIME_DIR is missing (CANOPY_COMPUTE is podman)');
    return createPodmanDriver({
      workDir,
      minerHotkey: hotkey.address,
      runtimeDir: resolve(CANOPY_RUNTIME_DIR),
      network: CANOPY_PODMAN_NETWORK,
      gpus: CANOPY_PODMAN_GPUS,
      ...graval,
      ...(CANOPY_REGISTRY ? { registry: CANOPY_REGISTRY } : {}),
    });
  }
  const root = CANOPY_RUNTIME_DIR ? join(resolve(CANOPY_RUNTIME_DIR), 'app') : join(import.meta.dirname, '..');
  const archives = new ArchiveCache({
    dir: join(workDir, 'archives'),
    download: (imageId, signal) => source.download(`/images/${imageId}/archive`, 'registry', signal),
  });
  return createProcessDriver({ workDir, entry: join(root, 'api/instance/main.ts'), archives, ...graval });
}

function portRange(text: string): { first: number; last: number } {
  const [first = 0, last = 0] = text.split('-').map(Number);
  if (first < 1 || last > 65_535 || last <= first)
    throw new Error('Configuration is not usable:\n  CANOPY_PORT_RANGE must be low-high within 1-65535');
  return { first, last };
}

/** Whether nothing listens there; our own instances' ports are in the rows already. */
function isPortFree(port: number): Promise<boolean> {
  return new Promise((free) => {
    const probe = createServer();
    probe.once('error', () => free(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => free(true)));
  });
}
