import { z } from 'zod';
import { describeRoute } from '../../http/openapi.ts';
import { explicitNullQuery } from '../chutes/wire.ts';

/** What miners and auditors read (spec/validator-api.md §2.7, §2.12). */
export function describeNetwork(): void {
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

  describeRoute({
    method: 'get',
    path: '/invocations/exports/:year/:month/:day/:file',
    summary: 'Invocations, reports or jobs of one hour',
    auth: 'none',
    response: { contentType: 'text/csv' },
  });
  describeRoute({
    method: 'get',
    path: '/invocations/exports/recent',
    summary: 'The latest invocations',
    auth: 'none',
    query: z.object({ hotkey: z.string().optional(), limit: z.number().int().min(1).max(10_000).default(100) }),
    response: { contentType: 'text/csv' },
  });
  describeRoute({
    method: 'get',
    path: '/invocations/usage',
    summary: 'Use of the network by day',
    auth: 'none',
    response: z.unknown(),
  });
  describeRoute({
    method: 'get',
    path: '/invocations/stats/llm',
    summary: 'Tokens of language models by day',
    auth: 'none',
    response: z.unknown(),
  });
}
