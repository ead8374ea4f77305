import { createHmac, timingSafeEqual } from 'node:crypto';

/** What `api_keys.secret_hmac` holds: HMAC-SHA-256 of the whole key under the pepper (64 hex = 32 bytes of key). */
export const apiKeyHmac = (pepperHex: string, secret: string): Buffer =>
  createHmac('sha256', Buffer.from(pepperHex, 'hex')).update(secret, 'utf8').digest();

/** In constant time; false when lengths differ. */
export const isSameHmac = (left: Uint8Array, right: Uint8Array): boolean =>
  left.length === right.length && timingSafeEqual(left, right);
