/** Program `agent`: on each GPU server, tells what is in it and proves it. Knows no Temporal and no database. */
import { mkdir } from 'node:fs/promises';
import { cryptoWaitReady } from '@polkadot/util-crypto';
import { createLogger } from '../../activities/clients/log.ts';
import { findProverEngine, proverName } from '../../activities/clients/prover-engine.ts';
import { loadAgentConfig } from '../../workers/config/agent.ts';
import { createApp } from '../http/app.ts';
import { serve } from '../http/serve.ts';
import { createAgentAuth } from './agent-auth.ts';
import { findDevices } from './devices.ts';
import { ProofSessions } from './proof-sessions.ts';
import { agentRoutes } from './routes.ts';

const config = loadAgentConfig(process.env);
const log = createLogger('agent', config.CANOPY_LOG_LEVEL);
await cryptoWaitReady();
await mkdir(config.CANOPY_WORK_DIR, { recursive: true });
const engine = await findProverEngine(config.CANOPY_GRAVAL ?? null);
const inventory = await findDevices({
  simulatedGpus: config.CANOPY_SIMULATED_GPUS,
  workDir: config.CANOPY_WORK_DIR,
  gravalDevices: engine.devices,
});
log.info(
  {
    event: 'agent.inventory',
    simulated: inventory.simulated,
    gpus: inventory.devices.map(({ uuid, name }) => ({ uuid, name, prover: proverName(engine.placeOf(uuid)) })),
  },
  'agent.inventory',
);

const sessions = new ProofSessions({
  minerHotkey: config.CANOPY_MINER_HOTKEY,
  gpuUuids: inventory.devices.map(({ uuid }) => uuid),
  idleMs: config.CANOPY_PROOF_IDLE_MS,
  engine,
});
const auth = createAgentAuth({
  minerHotkey: config.CANOPY_MINER_HOTKEY,
  validatorHotkeys: config.CANOPY_VALIDATOR_HOTKEYS,
});
const app = createApp({
  program: 'agent',
  log,
  routers: [agentRoutes({ auth, inventory, sessions, workDir: config.CANOPY_WORK_DIR })],
});

await serve(app, {
  program: 'agent',
  host: config.CANOPY_LISTEN_HOST,
  port: config.CANOPY_LISTEN_PORT,
  log,
  close: () => sessions.closeAll(),
});
