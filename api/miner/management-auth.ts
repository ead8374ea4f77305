import type { RequestHandler } from 'express';
import { LRUCache } from 'lru-cache';
import { sha256Hex, verifySignature } from '../../activities/clients/hotkey.ts';
import {
  isFreshNonce,
  MINER_HEADER,
  MINER_NONCE_TOLERANCE_S,
  minerSigningString,
  NONCE_HEADER,
  SIGNATURE_HEADER,
  VALIDATOR_HEADER,
  type Purpose,
} from '../../workflows/domain/auth/signing.ts';
import { Refusal } from '../../workflows/domain/errors.ts';
import { rawBodyOf } from '../http/raw-body.ts';

/**
 * Proves that the caller holds the miner's own key (spec/miner.md §2.1): both names are the miner's, the nonce is less than
 * 30 s away in either direction, POST, PUT and PATCH sign the hash of the raw body (put `rawBody` before it) and count
 * once, GET and DELETE sign the purpose. The answer says what is wrong, never what would be right.
 */
export function managementAuth({
  minerHotkey,
  nowS = () => Date.now() / 1000,
}: {
  minerHotkey: string;
  nowS?: () => number;
}) {
  const used = new LRUCache<string, true>({ max: 50_000, ttl: MINER_NONCE_TOLERANCE_S * 2 * 1000 + 1000 });
  return (purpose: Purpose): RequestHandler =>
    (req, res, next) => {
      const [miner, validator, nonce, signature] = [MINER_HEADER, VALIDATOR_HEADER, NONCE_HEADER, SIGNATURE_HEADER].map(
        (name) => req.headers[name],
      );
      if (
        typeof miner !== 'string' ||
        typeof validator !== 'string' ||
        typeof nonce !== 'string' ||
        typeof signature !== 'string'
      ) {
        throw goAway('a signature header is missing');
      }
      if (miner !== minerHotkey || validator !== minerHotkey) throw goAway('not the key of this miner');
      if (!isFreshNonce(nonce, nowS(), MINER_NONCE_TOLERANCE_S)) throw goAway('the nonce is not fresh');
      const hasBody = ['POST', 'PUT', 'PATCH'].includes(req.method);
      const message = minerSigningString(miner, validator, nonce, hasBody ? rawBodyOf(res).sha256 : purpose);
      if (!verifySignature(message, signature, minerHotkey)) throw goAway('the signature does not verify');
      // sr25519 signatures are drawn at random: the message is what must not be used twice.
      const key = sha256Hex(`${req.method} ${req.originalUrl} ${message}`);
      if (hasBody && used.has(key)) throw new Refusal('auth.replayed', 'go away: this request was received before');
      if (hasBody) used.set(key, true);
      next();
    };
}
export type ManagementAuth = ReturnType<typeof managementAuth>;

const goAway = (why: string): Refusal => new Refusal('auth.unauthorized', `go away: ${why}`);
