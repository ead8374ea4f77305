import type { RequestHandler } from 'express';
import { verifySignature } from '../../activities/clients/hotkey.ts';
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

export interface AgentAuth {
  /** signed by the miner itself, in both roles */
  miner: (purpose: Purpose) => RequestHandler;
  /** signed by an allowed validator: the purpose, or the body's hash on POST */
  validator: (purpose?: Purpose) => RequestHandler;
}

/**
 * Four headers, both names checked, 30 s in both directions (spec/miner.md §2.1). A body-signed request counts once:
 * signatures are randomised, so an honest second request never has the first one's. Await `cryptoWaitReady` before.
 */
export function createAgentAuth({
  minerHotkey,
  validatorHotkeys,
}: {
  minerHotkey: string;
  validatorHotkeys: readonly string[];
}): AgentAuth {
  const seen = new Map<string, number>();

  const check =
    (signers: readonly string[], purpose: Purpose | undefined): RequestHandler =>
    (req, res, next) => {
      const [miner = '', validator = '', nonce = '', signature = ''] = [
        MINER_HEADER,
        VALIDATOR_HEADER,
        NONCE_HEADER,
        SIGNATURE_HEADER,
      ].map((name) => req.get(name));
      const nowS = Date.now() / 1000;
      if (!miner || !validator || !nonce || !signature) throw refused('signature headers are missing');
      if (miner !== minerHotkey || !signers.includes(validator)) throw refused('not for you');
      if (!isFreshNonce(nonce, nowS, MINER_NONCE_TOLERANCE_S)) throw refused('the nonce is stale');
      const covered = req.method === 'POST' ? rawBodyOf(res).sha256 : purpose;
      if (!covered || !verifySignature(minerSigningString(miner, validator, nonce, covered), signature, validator))
        throw refused('the signature is wrong');
      if (req.method === 'POST') {
        for (const [old, at] of seen) {
          if (nowS - at <= 2 * MINER_NONCE_TOLERANCE_S) break; // in order of arrival
          seen.delete(old);
        }
        if (seen.has(signature)) throw new Refusal('auth.replayed', 'go away: this request was made before');
        seen.set(signature, nowS);
      }
      next();
    };
  return {
    miner: (purpose) => check([minerHotkey], purpose),
    validator: (purpose) => check(validatorHotkeys, purpose),
  };
}

const refused = (why: string): Refusal => new Refusal('auth.unauthorized', `go away: ${why}`);
