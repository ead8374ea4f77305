import type { IncomingHttpHeaders } from 'node:http';
import { blake2b } from '@noble/hashes/blake2.js';
import { base58 } from '@scure/base';
import { verify } from '@scure/sr25519';
import {
  INSTANCE_NONCE_TOLERANCE_S,
  isFreshNonce,
  MINER_HEADER,
  minerSigningString,
  NONCE_HEADER,
  SIGNATURE_HEADER,
  VALIDATOR_HEADER,
} from '../../../workflows/domain/auth/signing.ts';

const MOST_REMEMBERED = 10_000;

/** `null` when the request may pass, else the reference's 401 text (spec/sdk-and-runtime.md §3.10). */
export type CheckSignature = (headers: IncomingHttpHeaders) => string | null;

/**
 * Bodiless requests of the validator, and of the miner itself (which then names itself as both, spec/miner.md §2.1),
 * signed over the word `chutes`. Each signature counts once: GETs are all alike, so a captured one would open the logs.
 */
export function createSignatureCheck({ miner, validator }: { miner: string; validator: string }): CheckSignature {
  const seen = new Map<string, number>();
  return (headers) => {
    const given = [MINER_HEADER, VALIDATOR_HEADER, NONCE_HEADER, SIGNATURE_HEADER].map((name) => headers[name]);
    const [byMiner, byValidator, nonce, signature] = given.map((value) => (typeof value === 'string' ? value : ''));
    const nowS = Math.floor(Date.now() / 1000);
    if (byMiner !== miner || (byValidator !== validator && byValidator !== miner)) return 'go away (missing)';
    if (!nonce || !isFreshNonce(nonce, nowS, INSTANCE_NONCE_TOLERANCE_S) || !signature) return 'go away (missing)';
    const bytes = signatureBytes(signature);
    if (!bytes || seen.has(signature)) return 'go away (sig)';
    const message = Buffer.from(minerSigningString(miner, byValidator, nonce, 'chutes'));
    if (!isSignedBy(byValidator, message, bytes)) return 'go away (sig)';
    forget(seen, nowS);
    seen.set(signature, Number(nonce) + INSTANCE_NONCE_TOLERANCE_S);
    return null;
  };
}

/** Expired signatures go, and the oldest when a busy prober fills the memory. */
function forget(seen: Map<string, number>, nowS: number): void {
  if (seen.size < MOST_REMEMBERED) return;
  for (const [signature, expiresS] of seen) if (expiresS <= nowS) seen.delete(signature);
  const [oldest] = seen.keys();
  if (seen.size >= MOST_REMEMBERED && oldest !== undefined) seen.delete(oldest);
}

const signatureBytes = (text: string): Buffer | null => {
  const digits = text.replace(/^0x/, '');
  return /^[0-9a-f]{128}$/.test(digits) ? Buffer.from(digits, 'hex') : null;
};

function isSignedBy(address: string, message: Uint8Array, signature: Uint8Array): boolean {
  try {
    return verify(message, signature, publicKeyOf(address));
  } catch {
    return false; // malformed points throw
  }
}

/** SS58 with a one-byte prefix: prefix, 32 bytes, two bytes of checksum. */
export function publicKeyOf(address: string): Uint8Array {
  const bytes = base58.decode(address);
  const body = bytes.subarray(0, -2);
  const checksum = blake2b(Buffer.concat([Buffer.from('SS58PRE'), body])).subarray(0, 2);
  if (bytes.length !== 35 || !Buffer.from(checksum).equals(bytes.subarray(-2))) throw new Error('not an SS58 address');
  return body.subarray(1);
}
