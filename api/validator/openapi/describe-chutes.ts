import { z } from 'zod';
import { describeRoute } from '../../http/openapi.ts';
import * as chutes from '../chutes/wire.ts';

const chute = z.looseObject({
  chute_id: z.string(),
  name: z.string(),
  slug: z.string(),
  version: z.string(),
  public: z.boolean(),
  hot: z.boolean(),
});
const status = z.object({ status: z.string() });

/** Chutes (spec/validator-api.md §2.4), with the schemas their routes parse with. */
export function describeChutes(): void {
  describeRoute({
    method: 'post',
    path: '/chutes/',
    summary: 'Deploy a chute',
    auth: 'user',
    query: chutes.deployQuery,
    body: chutes.chuteArgs,
    response: chute,
  });
  describeRoute({
    method: 'get',
    path: '/chutes/',
    summary: 'List chutes',
    auth: 'user?',
    purpose: 'chutes',
    query: chutes.listQuery,
    response: z.looseObject({
      total: z.number().int(),
      page: z.number().int(),
      limit: z.number().int(),
      items: z.array(chute),
    }),
  });
  describeRoute({
    method: 'get',
    path: '/chutes/*chute',
    summary: 'One chute, by id or [user/]name',
    auth: 'user?',
    purpose: 'chutes',
    response: chute,
  });
  describeRoute({
    method: 'put',
    path: '/chutes/*chute',
    summary: 'Change what a chute says of itself',
    auth: 'user',
    body: chutes.updateArgs,
    response: chute,
  });
  describeRoute({
    method: 'delete',
    path: '/chutes/*chute',
    summary: 'Delete a chute',
    auth: 'user',
    purpose: 'chutes',
    response: z.object({ chute_id: z.string(), deleted: z.boolean() }),
  });
  describeRoute({
    method: 'put',
    path: '/chutes/:chute/target_count',
    summary: 'How many instances a chute wants',
    auth: 'user',
    body: chutes.targetCountArgs,
    response: z.object({ chute_id: z.string(), target_count: z.number().int() }),
  });
  describeRoute({
    method: 'post',
    path: '/chutes/share',
    summary: 'Share a private chute with a user',
    auth: 'user',
    body: chutes.shareArgs,
    response: status,
  });
  describeRoute({
    method: 'post',
    path: '/chutes/unshare',
    summary: 'Take a share back',
    auth: 'user',
    body: chutes.shareArgs,
    response: status,
  });
  describeRoute({
    method: 'get',
    path: '/chutes/code/*chute',
    summary: 'Source of a chute',
    auth: 'user?',
    purpose: 'chutes',
    response: { contentType: 'text/plain' },
  });
  describeRoute({
    method: 'get',
    path: '/chutes/warmup/*chute',
    summary: 'Wait until a chute is hot',
    auth: 'user?',
    purpose: 'chutes',
    query: chutes.warmupQuery,
    response: { contentType: 'text/event-stream' },
  });
  for (const [name, summary] of [
    ['utilization', 'How busy chutes are'],
    ['rolling_updates', 'Updates under way'],
    ['gpu_count_history', 'GPUs per chute, lately'],
  ] as const)
    describeRoute({ method: 'get', path: `/chutes/${name}`, summary, auth: 'none', response: z.unknown() });
}
