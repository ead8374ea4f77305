/**
 * The session secret on its way to the instance (spec/sdk-and-runtime.md §5.7 d, variant A): sealed under
 * K = HKDF-SHA256(X25519 secret, salt = nonce 2, info = roots and digests of the proof), so that opening it needs the
 * instance's private key and the answers of the proof. Both halves stand here: validator seals, runtime opens.
 */
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js';
import { sessionKeyInfo } from './launch.ts';

const NONCE_BYTES = 12;

/** What both sides know after the proof. `nonce2` and `proofs` are null and empty when the plug-in is `none`. */
export interface SessionKeyMaterial {
  /** X25519 of the own private and the other's public key, 32 bytes */
  sharedSecret: Uint8Array;
  /** hex */
  nonce2: string | null;
  proofs: readonly { gpuUuid: string; root: string; digest: string }[];
}

/** base64 of nonce(12) ‖ ChaCha20-Poly1305(K, secret as UTF-8). `nonce` is 12 fresh random bytes. */
export function sealSessionSecret({
  secret,
  nonce,
  ...material
}: SessionKeyMaterial & { secret: string; nonce: Uint8Array }): string {
  if (nonce.length !== NONCE_BYTES) throw new Error('nonce must be 12 bytes');
  const body = chacha20poly1305(sessionKey(material), nonce).encrypt(utf8ToBytes(secret));
  return btoa(String.fromCharCode(...nonce, ...body));
}

/** The secret, or a throw when the key, the proof or the bytes are not the sealed ones. */
export function openSessionSecret({ sealed, ...material }: SessionKeyMaterial & { sealed: string }): string {
  const bytes = Uint8Array.from(atob(sealed), (char) => char.charCodeAt(0));
  const plain = chacha20poly1305(sessionKey(material), bytes.subarray(0, NONCE_BYTES)).decrypt(
    bytes.subarray(NONCE_BYTES),
  );
  return new TextDecoder().decode(plain);
}

function sessionKey({ sharedSecret, nonce2, proofs }: SessionKeyMaterial): Uint8Array {
  return hkdf(sha256, sharedSecret, hexToBytes(nonce2 ?? ''), utf8ToBytes(sessionKeyInfo(proofs)), 32);
}
