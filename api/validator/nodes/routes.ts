import { randomUUID } from 'node:crypto';
import { WithStartWorkflowOperation } from '@temporalio/client';
import { Router } from 'express';
import { NodeStore } from '../../../activities/validator/nodes/node-store.ts';
import { apartPairs } from '../../../activities/validator/nodes/sweep-activities.ts';
import { provableNodeOf, taskIdOf } from '../../../activities/validator/nodes/node-tasks.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { isUuid } from '../../../workflows/domain/ids.ts';
import { compactInventory, detailedInventory } from '../../../workflows/domain/nodes/inventory.ts';
import { whyBatchRefused } from '../../../workflows/domain/nodes/node-rules.ts';
import { nodeRegistrationWorkflowId, nodeWorkflowId } from '../../../workflows/ids.ts';
import { TASK_QUEUES } from '../../../workflows/task-queues.ts';
import { deleteNode, registerNodes } from '../../../workflows/validator/nodes/messages.ts';
import type { nodeLifecycle } from '../../../workflows/validator/nodes/node-lifecycle.ts';
import type { nodeRegistration } from '../../../workflows/validator/nodes/node-registration.ts';
import { nodePolicyOf } from '../../../workers/config/validator.ts';
import { sendExactJson } from '../../http/exact-json.ts';
import { describeRoute } from '../../http/openapi.ts';
import { jsonBodyOf, rawBody } from '../../http/raw-body.ts';
import { parse } from '../../http/validate.ts';
import { minerOf } from '../auth/auth.ts';
import type { ValidatorDeps } from '../deps.ts';
import * as wire from './wire.ts';

/** GPU inventory of spec/validator-api.md §2.5. */
export function nodeRoutes({ auth, config, db, temporal }: ValidatorDeps): Router {
  const store = new NodeStore(db);
  const policy = nodePolicyOf(config);

  return Router()
    .get('/nodes/', async (req, res) => {
      const { detailed, hotkey } = parse(wire.nodesQuery, req.query, 'query');
      const nodes = await store.inventory(hotkey ?? null);
      res.json(detailed ? wire.renderDetailed(detailedInventory(nodes)) : compactInventory(nodes));
    })
    .get('/nodes/never_together', async (req, res) => {
      const { at_least: atLeast } = parse(wire.neverTogetherQuery, req.query, 'query');
      res.json((await apartPairs(db, atLeast)).map(wire.renderPair));
    })
    .get('/nodes/supported', (_req, res) => void res.json(wire.SUPPORTED_GPUS))
    .get('/nodes/verification_status', auth.registered({ purpose: 'graval' }), async (req, res) => {
      const { task_id: taskId } = parse(wire.statusQuery, req.query, 'query');
      const { hotkey } = minerOf(res);
      if (!taskId.startsWith(`${hotkey}::`)) throw new Refusal('auth.unauthorized', 'not a task of yours');
      if (taskId === `${hotkey}::skip`) return void res.json({ status: 'verified' });
      res.json(wire.renderVerification(await store.byTask(taskId)));
    })
    .post('/nodes/', rawBody({ limitBytes: 256 * 1024, withinMs: 20_000 }), auth.registered(), async (_req, res) => {
      const { hotkey, blacklistReason } = minerOf(res);
      if (blacklistReason) throw new Refusal('auth.forbidden', `hotkey is blacklisted: ${blacklistReason}`);
      const { server_id: serverId, server_name: serverName, nodes: given } = parse(wire.multiNodeArgs, jsonBodyOf(res));
      const nodes = given.map(wire.parseNode);
      const refusal = whyBatchRefused(nodes);
      if (refusal) throw new Refusal(refusal.code, refusal.detail);

      const taskId = randomUUID();
      const start = new WithStartWorkflowOperation<typeof nodeRegistration>('nodeRegistration', {
        workflowId: nodeRegistrationWorkflowId(taskId),
        taskQueue: TASK_QUEUES.validator,
        workflowIdConflictPolicy: 'USE_EXISTING',
        args: [{ taskId, minerHotkey: hotkey, policy }],
        memo: { miner: hotkey },
      });
      const request = { serverId: serverId ?? null, serverName: serverName ?? null, nodes, receivedAtMs: Date.now() };
      await temporal.workflow.executeUpdateWithStart(registerNodes, {
        startWorkflowOperation: start,
        args: [request],
        updateId: taskId,
      });

      const rows = new Map((await store.byTask(`${hotkey}::${taskId}`)).map((row) => [row.uuid, row]));
      const answer = nodes.flatMap(({ uuid }) => rows.get(uuid) ?? []).map(wire.renderNode);
      sendExactJson(res, { nodes: answer, task_id: `${hotkey}::${taskId}` }, 202);
    })
    .delete('/nodes/:uuid', auth.registered({ purpose: 'nodes' }), async (req, res) => {
      const { hotkey } = minerOf(res);
      const row = await store.byUuid(String(req.params.uuid));
      const taskId = taskIdOf(row?.task_id ?? '');
      if (!row || row.miner_hotkey !== hotkey || !isUuid(taskId))
        throw new Refusal('resource.not_found', 'no such node of yours');
      // With start: a row whose workflow is gone can still be deleted, by its workflow.
      const start = new WithStartWorkflowOperation<typeof nodeLifecycle>('nodeLifecycle', {
        workflowId: nodeWorkflowId(row.uuid),
        taskQueue: TASK_QUEUES.validator,
        workflowIdConflictPolicy: 'USE_EXISTING',
        args: [
          {
            node: provableNodeOf(row),
            taskId,
            minerHotkey: hotkey,
            serverId: row.server_id,
            policy,
            awaitsRegistration: false,
          },
        ],
      });
      await temporal.workflow.executeUpdateWithStart(deleteNode, {
        startWorkflowOperation: start,
        args: [{ minerHotkey: hotkey }],
      });
      res.json({ node_id: row.uuid, deleted: true });
    });
}

describeRoute({
  method: 'get',
  path: '/nodes/',
  summary: 'Verified GPUs, by type or by miner',
  auth: 'none',
  query: wire.nodesQuery,
});
describeRoute({
  method: 'get',
  path: '/nodes/never_together',
  summary:
    'Pairs of miners of which one broke in a window in which the other held, and which have not held together since',
  auth: 'none',
  query: wire.neverTogetherQuery,
});
describeRoute({
  method: 'get',
  path: '/nodes/supported',
  summary: 'The GPU types this network pays for',
  auth: 'none',
});
describeRoute({
  method: 'post',
  path: '/nodes/',
  summary: 'Announce the GPUs of a server; they are proven together',
  auth: 'registered',
  body: wire.multiNodeArgs,
  response: wire.registrationResponse,
  status: 202,
});
describeRoute({
  method: 'get',
  path: '/nodes/verification_status',
  summary: 'How the proof of a registration stands',
  auth: 'registered',
  purpose: 'graval',
  query: wire.statusQuery,
  response: wire.verificationStatus,
});
describeRoute({
  method: 'delete',
  path: '/nodes/:uuid',
  summary: 'Take a GPU out; 409 while an instance runs on it',
  auth: 'registered',
  purpose: 'nodes',
  response: wire.deletionResponse,
});
