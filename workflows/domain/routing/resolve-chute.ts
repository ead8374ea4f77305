import { isUuid } from '../ids.ts';
import type { Aggregator } from './host-target.ts';
import { OFFICIAL_USERNAME, type RoutedChute } from './routed.ts';

/** Templates an aggregator serves (spec/validator-api.md §3.2); embeddings are asked for at `/v1` too. */
export function templatesOf(aggregator: Aggregator, path: string): readonly string[] {
  switch (aggregator) {
    case 'llm':
      return path === '/v1/embeddings' ? ['embedding', 'vllm'] : ['vllm'];
    case 'embed':
      return ['embedding'];
    case 'image':
      return ['diffusion'];
  }
}

export interface ChuteIndex {
  byId: (chuteId: string) => RoutedChute | null;
  /** every chute of that exact name, of any owner */
  byName: (name: string) => readonly RoutedChute[];
}

/**
 * The chute a model name or id means to this caller, or null: missing, of another template and inaccessible look the
 * same from outside (§3.3). Among equal names: the official account's, then the caller's own, the oldest, the smallest id.
 */
export function resolveModel(
  model: string,
  {
    callerId,
    templates,
    chutes,
    canSee,
  }: {
    callerId: string;
    templates: readonly string[] | null;
    chutes: ChuteIndex;
    canSee: (chute: RoutedChute) => boolean;
  },
): RoutedChute | null {
  const byId = isUuid(model) ? chutes.byId(model.toLowerCase()) : null;
  const candidates = (byId ? [byId] : chutes.byName(model)).filter(
    (chute) => canSee(chute) && (templates === null || templates.includes(chute.template ?? '')),
  );
  const rank = (chute: RoutedChute): number =>
    chute.ownerName === OFFICIAL_USERNAME ? 0 : chute.ownerId === callerId ? 1 : 2;
  const [best] = [...candidates].sort(
    (a, b) => rank(a) - rank(b) || a.createdAtMs - b.createdAtMs || (a.chuteId < b.chuteId ? -1 : 1),
  );
  return best ?? null;
}

/**
 * Splits the segments after `/chutes/` into a chute and a path on it. Names may hold slashes and carry `owner/`: the
 * longest name that means a chute wins.
 */
export function resolveDirect(
  segments: readonly string[],
  options: Parameters<typeof resolveModel>[1],
): { chute: RoutedChute; path: string } | null {
  for (let length = segments.length - 1; length >= 1; length--) {
    const name = segments.slice(0, length).join('/');
    const owned = (chute: RoutedChute): boolean =>
      chute.ownerName.toLowerCase() === segments[0]?.toLowerCase() && options.canSee(chute);
    const chute =
      resolveModel(name, options) ??
      (length > 1 ? resolveModel(segments.slice(1, length).join('/'), { ...options, canSee: owned }) : null);
    if (chute) return { chute, path: `/${segments.slice(length).join('/')}` };
  }
  return null;
}
