import { Router, type Express } from 'express';
import { loadHotkey } from '../../activities/clients/hotkey.ts';
import { createLogger } from '../../activities/clients/log.ts';
import { connectDatabase } from '../../activities/clients/postgres.ts';
import { connectTemporal } from '../../activities/clients/temporal.ts';
import { MinerWorkflows } from '../../activities/miner/miner-workflows.ts';
import { AgentClient } from '../../activities/miner/validator/agent-client.ts';
import { expectStatus, ValidatorClient } from '../../activities/miner/validator/validator-client.ts';
import { loadMinerConfig } from '../../workers/config/miner.ts';
import { minerNamespace } from '../../workflows/ids.ts';
import { createApp } from '../http/app.ts';
import { serve } from '../http/serve.ts';
import { deploymentRoutes } from './deployments/routes.ts';
import type { MinerDeps } from './deps.ts';
import { managementAuth } from './management-auth.ts';
import { serverRoutes } from './servers/routes.ts';

const PROGRAM = 'miner-api';

/** The miner API: servers and deployments of one miner, for who holds its key. */
export function createMinerApp(deps: MinerDeps): Express {
  const ping = Router().get('/ping', (_req, res) => void res.json({ message: 'pong' }));
  // `/servers/{id}/deployments` before `/servers/{id}`.
  return createApp({ program: PROGRAM, log: deps.log, routers: [ping, deploymentRoutes(deps), serverRoutes(deps)] });
}

async function main(): Promise<void> {
  const config = loadMinerConfig(process.env);
  const log = createLogger(PROGRAM, config.CANOPY_LOG_LEVEL);
  const hotkey = await loadHotkey(config.CANOPY_MINER_SEED.reveal());
  const db = connectDatabase({
    url: config.CANOPY_DATABASE_URL.reveal(),
    poolMax: config.CANOPY_DATABASE_POOL,
    applicationName: PROGRAM,
  });
  const namespace = config.CANOPY_TEMPORAL_NAMESPACE ?? minerNamespace(hotkey.address);
  const temporal = await connectTemporal(config.CANOPY_TEMPORAL_ADDRESS, namespace);
  const validator = new ValidatorClient({ baseUrl: config.CANOPY_VALIDATOR_URL, hotkey });
  const agent = new AgentClient({ hotkey });
  const app = createMinerApp({
    db,
    hotkey,
    log,
    temporal: temporal.client,
    workflows: new MinerWorkflows(temporal.client),
    auth: managementAuth({ minerHotkey: hotkey.address }),
    validatorHotkey: config.CANOPY_VALIDATOR_HOTKEY,
    supportedGpuRefs: async () =>
      Object.keys(
        expectStatus(await validator.ask('GET', '/nodes/supported'), 'GET /nodes/supported', [200]) as object,
      ),
    agentAnswers: (agentUrl) => agent.answersPing(agentUrl),
    settings: { stubDeadlineMs: config.CANOPY_STUB_DEADLINE_MS, pollMs: DEPLOYMENT_POLL_MS },
  });
  await serve(app, {
    program: PROGRAM,
    host: config.CANOPY_LISTEN_HOST,
    port: config.CANOPY_LISTEN_PORT,
    log,
    close: async () => {
      await temporal.close();
      await db.destroy();
    },
  });
}

/** The API only needs it for deployments whose workflow is lost: what is left of those is their removal. */
const DEPLOYMENT_POLL_MS = 5000;

if (import.meta.main) await main();
