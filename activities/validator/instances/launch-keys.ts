import { createPrivateKey, createPublicKey, diffieHellman, generateKeyPairSync } from 'node:crypto';
import type { SecretBox } from '../../clients/secret-box.ts';

const SPKI_X25519 = Buffer.from('302a300506032b656e032100', 'hex');
const contextOf = (configId: string): string => `launch:${configId}`;

/** The validator's X25519 pair of one launch: columns `ephemeral_key_sealed` (PKCS 8 DER as hex) and `ephemeral_public_key` (64 hex). */
export function drawLaunchKeys(box: SecretBox, configId: string): { sealed: Buffer; publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync('x25519');
  const pkcs8 = privateKey.export({ format: 'der', type: 'pkcs8' }).toString('hex');
  return {
    sealed: box.seal(pkcs8, contextOf(configId)),
    publicKey: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('hex'),
  };
}

/** X25519 of the launch's private key and the instance's public key (64 hex): 32 bytes. Throws on a key of low order. */
export function launchSharedSecret(
  box: SecretBox,
  configId: string,
  sealed: Uint8Array,
  peerPublicKey: string,
): Buffer {
  const key = Buffer.from(box.open(sealed, contextOf(configId)), 'hex');
  return diffieHellman({
    privateKey: createPrivateKey({ key, format: 'der', type: 'pkcs8' }),
    publicKey: createPublicKey({
      key: Buffer.concat([SPKI_X25519, Buffer.from(peerPublicKey, 'hex')]),
      format: 'der',
      type: 'spki',
    }),
  });
}
