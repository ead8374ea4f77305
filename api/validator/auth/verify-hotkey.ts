import type { IncomingHttpHeaders } from 'node:http';
import { decodeAddress, encodeAddress } from '@polkadot/util-crypto';
import { verifySignature } from '../../../activities/clients/hotkey.ts';
import {
  clientSigningString,
  HOTKEY_HEADER,
  isFreshNonce,
  NONCE_HEADER,
  NONCE_TOLERANCE_S,
  SIGNATURE_HEADER,
} from '../../../workflows/domain/auth/signing.ts';

/** The three headers, well formed and fresh; the signature is not checked yet. */
export interface SignedHeaders {
  hotkey: string;
  nonce: string;
  /** 128 lower-case hex */
  signature: string;
}

/** Hotkey authentication is meant iff both are there (spec/validator-api.md §1.2 Selection). */
export const hasHotkeyHeaders = (headers: IncomingHttpHeaders): boolean =>
  headers[HOTKEY_HEADER] !== undefined && headers[SIGNATURE_HEADER] !== undefined;

/** null when anything is malformed or the nonce is stale or from the future. */
export function readSignedHeaders(headers: IncomingHttpHeaders, nowS: number): SignedHeaders | null {
  const hotkey = headers[HOTKEY_HEADER];
  const nonce = headers[NONCE_HEADER];
  const signature = headers[SIGNATURE_HEADER];
  if (typeof hotkey !== 'string' || typeof nonce !== 'string' || typeof signature !== 'string') return null;
  if (!isFreshNonce(nonce, nowS, NONCE_TOLERANCE_S) || !isSs58(hotkey)) return null;
  const hex = signature.startsWith('0x') ? signature.slice(2) : signature;
  return /^[0-9a-f]{128}$/.test(hex) ? { hotkey, nonce, signature: hex } : null;
}

/** `covered`: the route's purpose, or the SHA-256 of the raw body. */
export const isSignedBy = ({ hotkey, nonce, signature }: SignedHeaders, covered: string): boolean =>
  verifySignature(clientSigningString(hotkey, nonce, covered), signature, hotkey);

/** An address in the one spelling we store: SS58, format 42. Another spelling of the same key is not it. */
export function isSs58(address: string): boolean {
  if (!/^[1-9A-HJ-NP-Za-km-z]{47,49}$/.test(address)) return false;
  try {
    return encodeAddress(decodeAddress(address), 42) === address;
  } catch {
    return false;
  }
}
