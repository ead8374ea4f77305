/** What the gateway knows about chutes, callers and instances: plain facts, loaded from rows, never changed in place. */
export interface RoutedCord {
  method: string;
  path: string;
  function: string;
  stream: boolean;
  passthrough: boolean;
  publicPath: string | null;
  publicMethod: string;
  outputContentType: string | null;
}

export interface RoutedChute {
  chuteId: string;
  ownerId: string;
  ownerName: string;
  /** the owner's role bits (spec/validator-api.md §1.6) */
  ownerPermissions: number;
  name: string;
  slug: string;
  isPublic: boolean;
  template: string | null;
  cords: readonly RoutedCord[];
  concurrency: number;
  /** 1 is free; negative is a surcharge */
  discount: number;
  disabled: boolean;
  imageId: string;
  imageOwnerId: string;
  /** null when nothing on the network satisfies the node selector */
  hourlyMicroUsd: number | null;
  invocationCount: number;
  createdAtMs: number;
}

export interface RoutedInstance {
  instanceId: string;
  chuteId: string;
  host: string;
  port: number;
  transport: string;
  /** SHA-256 of the certificate's DER, 64 lower-case hex */
  certSha256: string;
  minerUid: number;
  minerHotkey: string;
  computeMultiplier: number;
}

export interface RoutedUser {
  userId: string;
  username: string;
  permissions: number;
}

/** The account whose chutes win a name and are listed as the network's own. */
export const OFFICIAL_USERNAME = 'chutes';

/** Public, own, or shared with the caller (§3.4, check 1). */
export function isVisible(
  chute: RoutedChute,
  userId: string,
  isShared: (chuteId: string, userId: string) => boolean,
): boolean {
  return chute.isPublic || chute.ownerId === userId || isShared(chute.chuteId, userId);
}
