import type { NodeSelector } from '../gpus/node-selector.ts';

/** A cord as the SDK posts it and rows keep it (spec/validator-api.md §2.4.1): a wire document, so its keys are the wire's. */
export interface Cord {
  method: string;
  path: string;
  function: string;
  stream: boolean;
  passthrough: boolean;
  public_api_path: string | null;
  public_api_method: string | null;
  input_schema: Record<string, unknown> | null;
  output_schema: Record<string, unknown> | null;
  minimal_input_schema: Record<string, unknown> | null;
  output_content_type: string | null;
}

/** The selector as rows keep it, the wire's keys; refs are lower case. Prices are USD per hour. */
export interface NodeSelectorDocument {
  gpu_count: number;
  min_vram_gb_per_gpu: number;
  include: string[] | null;
  exclude: string[] | null;
  dynamic?: boolean;
  max_hourly_price_per_gpu?: number | null;
}

/** Everything of an accepted `POST /chutes/`: the content-addressed blob that `deployChute` names. */
export interface ChuteDefinition {
  chuteId: string;
  userId: string;
  imageId: string;
  name: string;
  /** slug of a new chute before any collision suffix; an existing chute keeps its own */
  slug: string;
  version: string;
  public: boolean;
  code: string;
  filename: string;
  refStr: string;
  standardTemplate: string | null;
  tagline: string;
  readme: string;
  toolDescription: string | null;
  logoId: string | null;
  nodeSelector: NodeSelectorDocument;
  cords: Cord[];
  concurrency: number;
  revision: string | null;
  maxInstances: number | null;
  scalingThreshold: number | null;
  shutdownAfterSeconds: number | null;
  allowExternalEgress: boolean;
  minimumTrustLevel: string;
  chutesVersion: string;
  feeMicroUsd: number;
}

/** The stored selector as rules read it. */
export function nodeSelectorOf(document: NodeSelectorDocument): NodeSelector {
  const price = document.max_hourly_price_per_gpu ?? null;
  const lower = (refs: string[] | null) => refs?.map((ref) => ref.toLowerCase()) ?? null;
  return {
    gpuCount: document.gpu_count,
    minVramGbPerGpu: document.min_vram_gb_per_gpu,
    include: lower(document.include),
    exclude: lower(document.exclude),
    maxHourlyPricePerGpuMicroUsd: price === null ? null : Math.round(price * 1_000_000),
  };
}
