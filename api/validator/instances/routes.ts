import { createHmac } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { Router } from 'express';
import { WorkflowNotFoundError } from '@temporalio/client';
import { request } from 'undici';
import { z } from 'zod';
import { readLaunchOfMiner, readLogSource } from '../../../activities/validator/instances/launch-store.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { uuid5 } from '../../../workflows/domain/ids.ts';
import { INSTANCE_LOG_PORT } from '../../../workflows/domain/protocol/canopy-transport.ts';
import { instanceWorkflowId } from '../../../workflows/ids.ts';
import { removeInstance } from '../../../workflows/validator/instances/messages.ts';
import { describeRoute } from '../../http/openapi.ts';
import { parse } from '../../http/validate.ts';
import { wireUuid } from '../../http/wire-types.ts';
import { callerOf, minerOf } from '../auth/auth.ts';
import type { ValidatorDeps } from '../deps.ts';
import { launchRoutes } from './launch-routes.ts';
import { logPortOf, logsQuery, tokenQuery } from './wire.ts';

const MAX_BACKFILL = 10_000;
const removalPath = z.object({ chuteId: wireUuid(), instanceId: wireUuid() });
const logsPath = z.object({ instanceId: wireUuid() });

/** Instances of spec/validator-api.md §2.6: the launch, removal by the miner, logs, the IP token. */
export function instanceRoutes(deps: ValidatorDeps): Router {
  const { auth, config, db, hotkey, temporal } = deps;
  const router = Router();
  router.use(launchRoutes(deps));

  // The salt is a secret of ours, or anybody could make the token of any address. `req.ip` trusts only our own proxies.
  router.get('/instances/token_check', (req, res) => {
    const { salt } = parse(tokenQuery, req.query, 'query');
    const serverSalt = createHmac('sha256', config.CANOPY_KEY_PEPPER.reveal()).update('ip token').digest('hex');
    res.json({ token: uuid5(`${req.ip ?? ''}:${serverSalt}${salt === undefined ? '' : `:${salt}`}`) });
  });

  router.get('/instances/:instanceId/logs', auth.user({ purpose: 'logs' }), async (req, res) => {
    const { instanceId } = parse(logsPath, req.params, 'path');
    const { backfill } = parse(logsQuery, req.query, 'query');
    if (backfill > MAX_BACKFILL) throw new Refusal('request.invalid', `backfill must be between 0 and ${MAX_BACKFILL}`);
    const source = await readLogSource(db, instanceId);
    if (!source) throw new Refusal('resource.not_found', 'Instance not found');
    // A public chute's log holds what other people asked it: not even its owner reads that here (§2.6.5).
    if (source.public || source.user_id !== callerOf(res).userId)
      throw new Refusal('auth.forbidden', 'logs are for the owner of a private chute');
    const port = logPortOf(source.port_mappings, INSTANCE_LOG_PORT);
    if (port === null) throw new Refusal('resource.not_found', 'the instance has no log server');
    const leaving = new AbortController();
    res.once('close', () => leaving.abort());
    const upstream = await request(`http://${hostOf(source.host)}:${port}/logs/stream?backfill=${backfill}`, {
      headers: hotkey.minerHeaders({ miner: source.miner_hotkey, validator: hotkey.address }, { purpose: 'chutes' }),
      signal: leaving.signal,
      headersTimeout: 10_000,
      bodyTimeout: 0,
    }).catch((err: unknown) => {
      throw new Refusal('service.unavailable', 'the log server of the instance does not answer', { cause: err });
    });
    if (upstream.statusCode !== 200) {
      upstream.body.on('error', () => {}).destroy();
      throw new Refusal('service.unavailable', `the log server of the instance answered ${upstream.statusCode}`);
    }
    res.status(200).type('text/event-stream').set('cache-control', 'no-cache');
    await pipeline(upstream.body, res).catch(() => res.destroy()); // one side left: there is nobody to tell
  });

  router.delete('/instances/:chuteId/:instanceId', auth.registered({ purpose: 'instances' }), async (req, res) => {
    const { chuteId, instanceId } = parse(removalPath, req.params, 'path');
    const own = await readLaunchOfMiner(db, {
      chute_id: chuteId,
      instance_id: instanceId,
      miner_hotkey: minerOf(res).hotkey,
    });
    if (!own) throw new Refusal('resource.not_found', 'Instance not found');
    try {
      await temporal.workflow
        .getHandle(instanceWorkflowId(instanceId))
        .executeUpdate(removeInstance, { args: [{ code: 'miner_requested' }] });
    } catch (err) {
      throw err instanceof WorkflowNotFoundError
        ? new Refusal('resource.not_found', 'Instance not found', { cause: err })
        : err;
    }
    deps.log.info({ event: 'instance.removed_by_miner', instanceId, chuteId }, 'instance.removed_by_miner');
    res.json({ instance_id: instanceId, deleted: true });
  });
  return router;
}

const hostOf = (host: string): string => (host.includes(':') ? `[${host}]` : host);

describeRoute({
  method: 'get',
  path: '/instances/token_check',
  summary: 'Token of the address that asks',
  auth: 'none',
  query: tokenQuery,
});
describeRoute({
  method: 'get',
  path: '/instances/:instanceId/logs',
  summary: 'Log of an instance, as server-sent events',
  auth: 'user',
  purpose: 'logs',
  query: logsQuery,
});
describeRoute({
  method: 'delete',
  path: '/instances/:chuteId/:instanceId',
  summary: 'The miner ends its instance',
  auth: 'registered',
  purpose: 'instances',
});
