import { BASIS_MICRO_USD_PER_HOUR, GPU_TYPES, type GpuType } from './gpu-table.ts';

/** Which GPUs a chute can run on (spec/validator-api.md §5.2). Refs are lower case; `null` include means all. */
export interface NodeSelector {
  gpuCount: number;
  minVramGbPerGpu: number;
  include: readonly string[] | null;
  exclude: readonly string[] | null;
  maxHourlyPricePerGpuMicroUsd: number | null;
}

/** Types that satisfy the selector, in table order; empty when none does. */
export function supportedGpus(selector: NodeSelector): GpuType[] {
  return GPU_TYPES.filter(
    (type) =>
      (selector.include === null || selector.include.includes(type.ref)) &&
      !(selector.exclude ?? []).includes(type.ref) &&
      type.memoryGb >= selector.minVramGbPerGpu &&
      (selector.maxHourlyPricePerGpuMicroUsd === null ||
        type.hourlyRateMicroUsd <= selector.maxHourlyPricePerGpuMicroUsd),
  );
}

/** gpu_count × the cheapest supported rate, per hour; null when nothing is supported. */
export function hourlyPriceMicroUsd(selector: NodeSelector): number | null {
  const rates = supportedGpus(selector).map((type) => type.hourlyRateMicroUsd);
  return rates.length === 0 ? null : selector.gpuCount * Math.min(...rates);
}

/** Price as a multiple of the basis: gpu_count × min(rate) ÷ 4.5 USD; null when nothing is supported. */
export function computeMultiplier(selector: NodeSelector): number | null {
  const price = hourlyPriceMicroUsd(selector);
  return price === null ? null : price / BASIS_MICRO_USD_PER_HOUR;
}
