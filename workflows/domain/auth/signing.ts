/** The strings both sides of the wire sign, UTF-8, sr25519 (spec/validator-api.md §1.2, §1.8). */

/** Purposes a route may declare; never transmitted, part of what is signed. */
export type Purpose =
  | 'me'
  | 'api_keys'
  | 'secrets'
  | 'images'
  | 'chutes'
  | 'miner'
  | 'launch'
  | 'instances'
  | 'nodes'
  | 'graval'
  | 'registry'
  | 'sockets'
  | 'logs'
  | 'tee'
  | 'cache'
  | 'management'
  | 'registration'
  | 'monitoring'
  | 'kubeconfig';

export const HOTKEY_HEADER = 'x-chutes-hotkey';
export const NONCE_HEADER = 'x-chutes-nonce';
export const SIGNATURE_HEADER = 'x-chutes-signature';
export const MINER_HEADER = 'x-chutes-miner';
export const VALIDATOR_HEADER = 'x-chutes-validator';

/** A client's nonce is Unix seconds within this of the server's clock (§0.3). */
export const NONCE_TOLERANCE_S = 600;
/** Validator→miner and management signatures age faster (spec/miner.md §2.1). */
export const MINER_NONCE_TOLERANCE_S = 30;
/** The instance runtime's tolerance (spec/sdk-and-runtime.md §3.10). */
export const INSTANCE_NONCE_TOLERANCE_S = 540;

/** `hotkey:nonce:X`, X = purpose of the route if it declares one, else the hash of the raw body. */
export function clientSigningString(hotkey: string, nonce: string, purposeOrBodySha256: string): string {
  return `${hotkey}:${nonce}:${purposeOrBodySha256}`;
}

/** `miner:validator:nonce:X`; for management calls both names are the miner's. */
export function minerSigningString(
  miner: string,
  validator: string,
  nonce: string,
  purposeOrBodySha256: string,
): string {
  return `${miner}:${validator}:${nonce}:${purposeOrBodySha256}`;
}

/** Digits only and younger than the tolerance, in both directions. */
export function isFreshNonce(nonce: string, nowS: number, toleranceS: number): boolean {
  return /^[0-9]{1,15}$/.test(nonce) && Math.abs(nowS - Number(nonce)) < toleranceS;
}
