import { createHash } from 'node:crypto';
import { Keyring } from '@polkadot/keyring';
import type { KeyringPair } from '@polkadot/keyring/types';
import { hexToU8a, u8aToHex } from '@polkadot/util';
import { cryptoWaitReady, decodeAddress, signatureVerify } from '@polkadot/util-crypto';
import {
  clientSigningString,
  HOTKEY_HEADER,
  MINER_HEADER,
  minerSigningString,
  NONCE_HEADER,
  SIGNATURE_HEADER,
  VALIDATOR_HEADER,
  type Purpose,
} from '../../workflows/domain/auth/signing.ts';

/** What a signature covers: the raw bytes of a body, or the route's purpose word. */
export type Signed = { body: Uint8Array | string } | { purpose: Purpose };

export const sha256Hex = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex');
const covered = (signed: Signed): string => ('body' in signed ? sha256Hex(signed.body) : signed.purpose);
const nowS = (): string => String(Math.floor(Date.now() / 1000));

/** An sr25519 key that signs wire requests. Await `loadHotkey`: the crypto is WebAssembly. */
export class Hotkey {
  readonly #pair: KeyringPair;
  constructor(pair: KeyringPair) {
    this.#pair = pair;
  }
  get address(): string {
    return this.#pair.address;
  }
  sign(message: string): string {
    return u8aToHex(this.#pair.sign(message)).slice(2);
  }
  /** Headers of a client's or miner's request to the validator (spec/validator-api.md §1.2). */
  clientHeaders(signed: Signed, nonce: string = nowS()): Record<string, string> {
    return {
      [HOTKEY_HEADER]: this.address,
      [NONCE_HEADER]: nonce,
      [SIGNATURE_HEADER]: this.sign(clientSigningString(this.address, nonce, covered(signed))),
    };
  }
  /** Headers of validator→miner, validator→instance and management calls (spec/validator-api.md §1.8, miner.md §2.1). */
  minerHeaders(
    { miner, validator }: { miner: string; validator: string },
    signed: Signed,
    nonce: string = nowS(),
  ): Record<string, string> {
    return {
      [MINER_HEADER]: miner,
      [VALIDATOR_HEADER]: validator,
      [NONCE_HEADER]: nonce,
      [SIGNATURE_HEADER]: this.sign(minerSigningString(miner, validator, nonce, covered(signed))),
    };
  }
}

/** `seedHex` is the 32-byte mini secret, 64 hex. */
export async function loadHotkey(seedHex: string): Promise<Hotkey> {
  await cryptoWaitReady();
  return new Hotkey(new Keyring({ type: 'sr25519', ss58Format: 42 }).addFromSeed(hexToU8a(`0x${seedHex}`)));
}

/** True when `signatureHex` is the sr25519 signature of `message` by `address`; the `<Bytes>` wrapped form is accepted
 * too (browser wallets). False, never a throw, on malformed input. Await `cryptoWaitReady` once before. */
export function verifySignature(message: string, signatureHex: string, address: string): boolean {
  if (!/^(0x)?[0-9a-f]{128}$/.test(signatureHex)) return false;
  try {
    return signatureVerify(message, hexToU8a(`0x${signatureHex.replace(/^0x/, '')}`), decodeAddress(address)).isValid;
  } catch {
    return false;
  }
}
