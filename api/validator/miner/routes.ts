import { Router } from 'express';
import { z } from 'zod';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { isUuid } from '../../../workflows/domain/ids.ts';
import { describeRoute } from '../../http/openapi.ts';
import { parse } from '../../http/validate.ts';
import { minerOf } from '../auth/auth.ts';
import { explicitNullQuery } from '../chutes/wire.ts';
import type { ValidatorDeps } from '../deps.ts';
import {
  minerChutes,
  minerImages,
  minerInstances,
  minerMetrics,
  minerNodes,
  readActiveInstances,
  readInventory,
  readMetagraph,
  readMinerChute,
  readServers,
} from './miner-queries.ts';
import { streamItems } from './stream-items.ts';

/** What miners read to know the network and themselves (spec/validator-api.md §2.7, §7.6). Every list but the metagraph is for registered miners. */
export function minerRoutes({ db, auth, config }: ValidatorDeps): Router {
  const registered = auth.registered({ purpose: 'miner' });
  const router = Router();
  router.get('/miner/chutes/', registered, (_req, res) => streamItems(res, minerChutes(db)));
  router.get('/miner/chutes/:chuteId/:version', registered, async (req, res) => {
    const { chuteId, version } = req.params as { chuteId: string; version: string };
    const chute = isUuid(chuteId) && isUuid(version) ? await readMinerChute(db, chuteId, version) : null;
    if (!chute) throw new Refusal('resource.not_found', 'no such chute with this version');
    res.json(chute);
  });
  router.get('/miner/images/', registered, (_req, res) => streamItems(res, minerImages(db)));
  router.get('/miner/nodes/', registered, (_req, res) => streamItems(res, minerNodes(db, minerOf(res).hotkey)));
  router.get('/miner/instances/', registered, (req, res) => {
    const { explicit_null } = parse(explicitNullQuery, req.query, 'query');
    return streamItems(res, minerInstances(db, minerOf(res).hotkey), explicit_null ? { whenEmpty: 'NO_ITEMS' } : {});
  });
  // One-off runs do not exist on this network yet: there is truly none without an instance.
  router.get('/miner/jobs/', registered, (_req, res) => streamItems(res, nothing()));
  router.get('/miner/metrics/', registered, (_req, res) => streamItems(res, minerMetrics(db)));
  router.get(
    '/miner/inventory',
    registered,
    async (_req, res) => void res.json(await readInventory(db, minerOf(res).hotkey)),
  );
  router.get('/miner/active_instances/', registered, async (_req, res) => void res.json(await readActiveInstances(db)));
  router.get(
    '/miner/servers/',
    registered,
    async (_req, res) => void res.json(await readServers(db, minerOf(res).hotkey)),
  );
  router.get('/miner/metagraph', async (_req, res) => void res.json(await readMetagraph(db, config.CANOPY_NETUID)));
  return router;
}

async function* nothing(): AsyncGenerator<never> {}

const lines = { contentType: 'text/event-stream', description: 'one `data: {…}` line for each item' };
for (const [name, summary] of [
  ['chutes', 'Chutes to run'],
  ['images', 'Images to hold'],
  ['nodes', 'GPUs of the caller'],
  ['jobs', 'One-off runs'],
  ['metrics', 'Demand for chutes'],
] as const)
  describeRoute({
    method: 'get',
    path: `/miner/${name}/`,
    summary,
    auth: 'registered',
    purpose: 'miner',
    response: lines,
  });
describeRoute({
  method: 'get',
  path: '/miner/instances/',
  summary: 'Instances of the caller',
  auth: 'registered',
  purpose: 'miner',
  query: explicitNullQuery,
  response: lines,
});
for (const [path, summary] of [
  ['/miner/chutes/:chuteId/:version', 'One version of a chute'],
  ['/miner/inventory', 'GPUs and what runs on them'],
  ['/miner/active_instances/', 'Active instances of the network'],
  ['/miner/servers/', 'Servers of the caller'],
] as const)
  describeRoute({ method: 'get', path, summary, auth: 'registered', purpose: 'miner', response: z.unknown() });
describeRoute({
  method: 'get',
  path: '/miner/metagraph',
  summary: 'Members of the network',
  auth: 'none',
  response: z.unknown(),
});
