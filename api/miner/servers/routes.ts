import { Router } from 'express';
import { WorkflowNotFoundError } from '@temporalio/client';
import { uuid5 } from '../../../workflows/domain/ids.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { serverWorkflowId } from '../../../workflows/ids.ts';
import { SEARCH_ATTRIBUTES } from '../../../workflows/search-attributes.ts';
import { TASK_QUEUES } from '../../../workflows/task-queues.ts';
import {
  removeServer,
  serverStatus,
  setServerLock,
  type ServerInput,
  type ServerState,
} from '../../../workflows/miner/servers/messages.ts';
import { jsonBodyOf, rawBody } from '../../http/raw-body.ts';
import { parse } from '../../http/validate.ts';
import type { MinerDeps } from '../deps.ts';
import { findServerId, listDeployments, listServers } from '../inventory.ts';
import { addServerBody } from './wire.ts';
import { streamProgress } from './progress-stream.ts';

const VERIFY_DEADLINE_MS = 900_000;
const HEALTH_INTERVAL_MS = 60_000;

/** `/servers/…` (spec/miner.md §2.2). `{id}` is a server's name or id. */
export function serverRoutes(deps: MinerDeps): Router {
  const { db, temporal, auth, hotkey, validatorHotkey } = deps;
  const management = auth('management');
  const router = Router();

  const idOf = async (id: string): Promise<string> => {
    const serverId = await findServerId(db, id);
    if (serverId === null) throw new Refusal('resource.not_found', `server ${id} not found`);
    return serverId;
  };
  const stateOf = async (serverId: string): Promise<ServerState | null> => {
    try {
      return await temporal.workflow.getHandle(serverWorkflowId(serverId)).query(serverStatus);
    } catch (err) {
      if (err instanceof WorkflowNotFoundError) return null;
      throw err;
    }
  };

  router.get('/servers/', management, async (_req, res) => void res.json(await listServers(db)));

  router.post('/servers/', rawBody({ limitBytes: 64 * 1024 }), management, async (req, res) => {
    const body = parse(addServerBody, jsonBodyOf(res));
    if (!body.agent_api) throw new Refusal('request.invalid', 'agent_api is required');
    if (body.validator !== validatorHotkey)
      throw new Refusal('request.invalid', `this miner works for validator ${validatorHotkey}`);
    const serverId = uuid5(`canopy-server/${hotkey.address}/${body.name}`);
    const before = await stateOf(serverId);
    const isRunning = before !== null && before.status !== 'failed' && before.status !== 'gone';
    if (isRunning && before.status !== 'provisioning')
      throw new Refusal('resource.conflict', `server ${body.name} is already provisioned`);
    if (!isRunning) {
      const refs = await deps.supportedGpuRefs().catch(() => null);
      if (refs === null)
        return void res.status(500).json({ detail: 'the validator did not say which GPUs it supports' });
      if (!refs.includes(body.gpu_short_ref))
        throw new Refusal('request.invalid', `gpu_short_ref ${body.gpu_short_ref} is not supported by the validator`);
      if (!(await deps.agentAnswers(body.agent_api)))
        return void res.status(502).json({ detail: `the agent at ${body.agent_api} does not answer` });
    }
    const input: ServerInput = {
      serverId,
      name: body.name,
      validator: body.validator,
      agentUrl: body.agent_api,
      gpuShortRef: body.gpu_short_ref,
      hourlyCostMicroUsd: Math.round(body.hourly_cost * 1_000_000),
      verifyDeadlineMs: VERIFY_DEADLINE_MS,
      healthIntervalMs: HEALTH_INTERVAL_MS,
    };
    // A second add of the same name joins the first; a client that leaves takes nothing with it.
    await temporal.workflow.start('serverLifecycle', {
      taskQueue: TASK_QUEUES.miner,
      workflowId: serverWorkflowId(serverId),
      args: [input],
      workflowIdConflictPolicy: 'USE_EXISTING',
      typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.server, value: serverId }],
    });
    await streamProgress(req, res, { look: () => stateOf(serverId), pollMs: deps.progressPollMs ?? 250 });
  });

  for (const [path, locked] of [
    ['lock', true],
    ['unlock', false],
  ] as const) {
    router.get(`/servers/:id/${path}`, management, async (req, res) => {
      const serverId = await idOf(String(req.params.id));
      await temporal.workflow
        .getHandle(serverWorkflowId(serverId))
        .executeUpdate(setServerLock, { args: [{ locked }] });
      const [server] = await listServers(db, serverId);
      res.json(server);
    });
  }

  router.get('/servers/:id/delete_preflight', management, async (req, res) => {
    const serverId = await idOf(String(req.params.id));
    res.json({
      jobs: await listDeployments(db, (query) => void query.where({ server_id: serverId }).whereNotNull('job_id')),
    });
  });

  router.delete('/servers/:id', management, async (req, res) => {
    const serverId = await idOf(String(req.params.id));
    const row = await db('servers').where({ server_id: serverId }).first();
    const input: ServerInput = {
      serverId,
      name: row.name,
      validator: row.validator,
      agentUrl: row.agent_url,
      gpuShortRef: row.gpu_short_ref,
      hourlyCostMicroUsd: Number(row.hourly_cost_micro_usd),
      verifyDeadlineMs: VERIFY_DEADLINE_MS,
      healthIntervalMs: HEALTH_INTERVAL_MS,
      resume: { status: 'removing', progress: [] },
    };
    await temporal.workflow.signalWithStart('serverLifecycle', {
      taskQueue: TASK_QUEUES.miner,
      workflowId: serverWorkflowId(serverId),
      args: [input],
      signal: removeServer,
    });
    res.json({
      status: 'started',
      detail: `${row.name} (${serverId}) takes no new work; it is removed once its deployments have ended`,
    });
  });

  return router;
}
