import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';

const VERSION = 1;

/** AES-256-GCM for secrets at rest: version(1) ‖ nonce(12) ‖ ciphertext ‖ tag(16), bound to `context` so that a row's
 * value opens nowhere else. `open` throws when key, context or bytes are not the sealed ones. */
export class SecretBox {
  readonly #key: Buffer;
  constructor(keyHex: string) {
    this.#key = Buffer.from(keyHex, 'hex');
  }

  seal(plaintext: string, context: string): Buffer {
    const nonce = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', this.#key, nonce).setAAD(Buffer.from(context));
    const body = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final()]);
    return Buffer.concat([Buffer.from([VERSION]), nonce, body, cipher.getAuthTag()]);
  }

  open(sealed: Uint8Array, context: string): string {
    const bytes = Buffer.from(sealed);
    if (bytes[0] !== VERSION || bytes.length < 29) throw new Error('sealed secret has an unknown form');
    const decipher = createDecipheriv('aes-256-gcm', this.#key, bytes.subarray(1, 13)).setAAD(Buffer.from(context));
    decipher.setAuthTag(bytes.subarray(-16));
    return Buffer.concat([decipher.update(bytes.subarray(13, -16)), decipher.final()]).toString('utf8');
  }
}
