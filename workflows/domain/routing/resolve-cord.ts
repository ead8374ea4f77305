import type { RoutedChute, RoutedCord } from './routed.ts';

export interface CordRequest {
  method: string;
  path: string;
  /** what body or query ask for; decides between two cords of one path on vllm chutes */
  stream: boolean;
  /** `POST /chutes/{x}/{path}`: the cord's own path counts as well, called with POST whatever its method */
  isDirect: boolean;
}

/** The cord a request means, or null (spec/validator-api.md §3.4, check 6; a request without `stream` counts as false). */
export function resolveCord(chute: RoutedChute, request: CordRequest): RoutedCord | null {
  const fits = chute.cords.filter(
    (cord) =>
      (cord.publicPath === request.path && cord.publicMethod === request.method) ||
      (request.isDirect && cord.path === request.path),
  );
  const ofStream = fits.filter((cord) => cord.stream === request.stream);
  if (chute.template === 'vllm') return ofStream[0] ?? null;
  return ofStream[0] ?? fits[0] ?? null;
}

/** Where the instance's program serves the cord: verbatim under its public name when it has one. */
export const upstreamPath = (cord: RoutedCord): string => cord.publicPath ?? cord.path;
export const upstreamMethod = (cord: RoutedCord): string =>
  cord.publicPath === null ? cord.method : cord.publicMethod;
