import { hourlyPriceMicroUsd } from '../gpus/node-selector.ts';
import { nodeSelectorOf, type NodeSelectorDocument } from './chute-definition.ts';

const INPUT_TOKENS_PER_HOURLY_USD = 0.01358695;
const OUTPUT_TOKENS_PER_HOURLY_USD = 0.05434782;
const STEP_PER_HOURLY_USD = 0.005;
const MIN_TOKEN_PRICE_USD = 0.01;

interface Price {
  usd: number;
  tao: number | null;
}
export interface EstimatedPrice {
  usd: { hour: number; second: number };
  /** null values while no TAO price is known: a price feed never fails a request */
  tao: { hour: number | null; second: number | null };
  per_million_tokens?: { input: Price; output: Price };
  per_step?: Price;
}

/** `current_estimated_price` (spec/validator-api.md §5.4), USD; null when no GPU type fits the selector. `discount` in (−3, 1]. */
export function estimatedPrice({
  nodeSelector,
  standardTemplate,
  discount,
}: {
  nodeSelector: NodeSelectorDocument;
  standardTemplate: string | null;
  discount: number;
}): EstimatedPrice | null {
  const microUsd = hourlyPriceMicroUsd(nodeSelectorOf(nodeSelector));
  if (microUsd === null) return null;
  const hour = microUsd / 1_000_000;
  const charged = hour * (1 - discount);
  const perMillion = (factor: number): Price => ({
    usd: round2(Math.max(MIN_TOKEN_PRICE_USD, hour * factor) * (1 - discount)),
    tao: null,
  });
  return {
    usd: { hour: charged, second: charged / 3600 },
    tao: { hour: null, second: null },
    ...(standardTemplate === 'vllm'
      ? {
          per_million_tokens: {
            input: perMillion(INPUT_TOKENS_PER_HOURLY_USD),
            output: perMillion(OUTPUT_TOKENS_PER_HOURLY_USD),
          },
        }
      : {}),
    ...(standardTemplate === 'diffusion' ? { per_step: { usd: charged * STEP_PER_HOURLY_USD, tao: null } } : {}),
  };
}

const round2 = (usd: number): number => Math.round(usd * 100) / 100;
