import { tokenPrice } from '../../workflows/domain/pricing/price.ts';
import { OFFICIAL_USERNAME, type RoutedChute } from '../../workflows/domain/routing/routed.ts';
import type { RoutingTable } from './routing-table.ts';

/**
 * `GET /v1/models` (spec/validator-api.md §3.2): public vllm chutes, the official ones first, then the most used.
 * Prices are dollars per million tokens. A name that two owners share is listed once: the one a call would reach.
 */
export function listModels(table: RoutingTable): { object: 'list'; data: Record<string, unknown>[] } {
  const isOfficial = (chute: RoutedChute): number => (chute.ownerName === OFFICIAL_USERNAME ? 0 : 1);
  const chutes = [...table.chutes()]
    .filter((chute) => chute.isPublic && chute.template === 'vllm' && !chute.disabled)
    .sort(
      (a, b) =>
        isOfficial(a) - isOfficial(b) ||
        b.invocationCount - a.invocationCount ||
        a.createdAtMs - b.createdAtMs ||
        (a.chuteId < b.chuteId ? -1 : 1),
    );
  const reached = new Map<string, RoutedChute>();
  for (const chute of [...chutes].sort((a, b) => isOfficial(a) - isOfficial(b) || a.createdAtMs - b.createdAtMs)) {
    if (!reached.has(chute.name)) reached.set(chute.name, chute);
  }
  return { object: 'list', data: chutes.filter((chute) => reached.get(chute.name) === chute).map(renderModel) };
}

function renderModel(chute: RoutedChute): Record<string, unknown> {
  const model = {
    id: chute.name,
    object: 'model',
    created: Math.floor(chute.createdAtMs / 1000),
    owned_by: chute.ownerName,
    root: chute.name,
    chute_id: chute.chuteId,
  };
  if (chute.hourlyMicroUsd === null) return model;
  const { inputMicroUsd, outputMicroUsd } = tokenPrice(chute.hourlyMicroUsd, chute.discount);
  const [input, output] = [inputMicroUsd / 1e6, outputMicroUsd / 1e6];
  return {
    ...model,
    price: { input: { usd: input }, output: { usd: output } },
    pricing: { prompt: input, completion: output },
  };
}
