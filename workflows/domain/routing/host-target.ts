export type Aggregator = 'llm' | 'embed' | 'image';

/** Who answers a request. `direct` is `POST /chutes/{name-or-id}/{path}`; the name may hold slashes, so the split comes later. */
export type Target =
  | { kind: 'api' }
  | { kind: 'sockets' }
  | { kind: 'own' }
  | { kind: 'aggregator'; aggregator: Aggregator }
  | { kind: 'chute'; slug: string }
  | { kind: 'direct'; segments: readonly string[] };

export interface RequestHead {
  host: string;
  method: string;
  path: string;
  isUpgrade: boolean;
}

/** First path segments under /chutes/ that are the API's own routes (spec/validator-api.md §2.4.3). */
const FIXED_WORDS = new Set([
  'share',
  'unshare',
  'warmup',
  'code',
  'utilization',
  'rolling_updates',
  'gpu_count_history',
  'affine_available',
  'miner_means',
  'vllm',
  'diffusion',
  'tei',
]);

/** The label before the first dot of a lower-cased host, null where there is none (`localhost`, `[::1]`). */
export const hostLabel = (host: string): string | null =>
  /^([a-z0-9-]+)\.[a-z0-9-]/.exec(host.toLowerCase())?.[1] ?? null;

/**
 * Spec/validator-api.md §3.1, decided per request. Two additions: `/v1/*` where the host names no chute behaves like
 * `llm.`, so that a bare `http://address:port/v1` serves OpenAI clients; sockets go to the socket server.
 */
export function decideTarget(
  { host, method, path, isUpgrade }: RequestHead,
  isSlug: (label: string) => boolean,
): Target {
  if (path === '/ping') return { kind: 'api' };
  const label = hostLabel(host);
  if (label !== null && label !== 'api' && isSlug(label))
    return isUpgrade ? { kind: 'sockets' } : { kind: 'chute', slug: label };
  if (
    isUpgrade ||
    label === 'ws' ||
    label === 'events' ||
    isUnder(path, '/socket.io') ||
    isUnder(path, '/events/socket.io')
  ) {
    return { kind: 'sockets' };
  }
  if (isUnder(path, '/_gateway')) return { kind: 'own' };
  if (label === 'llm' && (method === 'POST' || path === '/v1/models')) return { kind: 'aggregator', aggregator: 'llm' };
  if ((label === 'embed' || label === 'image') && method === 'POST') return { kind: 'aggregator', aggregator: label };
  if (path.startsWith('/v1/')) return { kind: 'aggregator', aggregator: 'llm' };
  const segments = method === 'POST' && path.startsWith('/chutes/') ? path.slice('/chutes/'.length).split('/') : [];
  const isCall =
    segments.length >= 2 && segments.every((segment) => segment !== '') && !FIXED_WORDS.has(segments[0] ?? '');
  return isCall ? { kind: 'direct', segments } : { kind: 'api' };
}

const isUnder = (path: string, root: string): boolean => path === root || path.startsWith(`${root}/`);
