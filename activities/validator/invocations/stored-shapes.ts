import type { NodeSelector } from '../../../workflows/domain/gpus/node-selector.ts';
import { isObject } from '../../../workflows/domain/openai/prepare-body.ts';
import type { RoutedCord } from '../../../workflows/domain/routing/routed.ts';

/** `chutes.cords` as deployed (spec/validator-api.md §2.4.1, Cord). Entries that are no cord are left out. */
export function readCords(stored: unknown): RoutedCord[] {
  return (Array.isArray(stored) ? stored : []).filter(isObject).flatMap((cord) => {
    const path = text(cord.path);
    if (path === null) return [];
    const publicPath = text(cord.public_api_path);
    const method = text(cord.method)?.toUpperCase() ?? 'POST';
    return [
      {
        method,
        path,
        function: text(cord.function) ?? path.slice(1),
        stream: cord.stream === true,
        passthrough: cord.passthrough === true,
        publicPath,
        publicMethod: text(cord.public_api_method)?.toUpperCase() ?? method,
        outputContentType: text(cord.output_content_type),
      },
    ];
  });
}

const text = (value: unknown): string | null => (typeof value === 'string' && value !== '' ? value : null);

/** `chutes.node_selector` as deployed (§5.2); null when it has no GPU count. */
export function readSelector(stored: unknown): NodeSelector | null {
  if (!isObject(stored) || typeof stored.gpu_count !== 'number') return null;
  const refs = (value: unknown): string[] | null =>
    Array.isArray(value) ? value.map((ref) => String(ref).toLowerCase()) : null;
  const maxHourly = stored.max_hourly_price_per_gpu;
  return {
    gpuCount: stored.gpu_count,
    minVramGbPerGpu: typeof stored.min_vram_gb_per_gpu === 'number' ? stored.min_vram_gb_per_gpu : 0,
    include: refs(stored.include),
    exclude: refs(stored.exclude),
    maxHourlyPricePerGpuMicroUsd: typeof maxHourly === 'number' ? Math.round(maxHourly * 1_000_000) : null,
  };
}
