import type { RequestHandler, Response } from 'express';
import type { Purpose } from '../../../workflows/domain/auth/signing.ts';

/** Who is calling, once proven. Role bits: spec/validator-api.md §1.6. */
export interface Caller {
  userId: string;
  username: string;
  hotkey: string;
  permissionsBitmask: number;
  via: 'hotkey' | 'api_key';
}

/** A miner whose hotkey signature was verified and who is in the metagraph and not blacklisted… unless `blacklistReason`. */
export interface RegisteredMiner {
  hotkey: string;
  coldkey: string;
  uid: number;
  blacklistReason: string | null;
}

/** The launch token's claims that routes use (spec/validator-api.md §2.6.1). */
export interface Launch {
  configId: string;
  token: string;
}

export interface AuthOptions {
  /** the signed word on routes that declare one; otherwise the raw body's hash is signed (§1.2) */
  purpose?: Purpose;
  /** no credentials at all is fine; wrong credentials never are */
  optional?: boolean;
}

/**
 * Middleware that proves the caller. On routes with a body put `rawBody(…)` before it: signatures cover the raw bytes.
 * API keys count as (action, object type from the first path segment, object id) against their scopes (§1.3).
 * `registered` never accepts an API key (§1.2 critical note).
 */
export interface Auth {
  user: (options?: AuthOptions) => RequestHandler;
  registered: (options?: { purpose?: Purpose }) => RequestHandler;
  /** A verified hotkey signature and nothing else: the signer need be neither user nor miner (`POST /users/register`). */
  hotkey: (options?: { purpose?: Purpose }) => RequestHandler;
  /**
   * Put before `rawBody(…)` of large uploads: refuses what cannot possibly authenticate (malformed headers, stale nonce,
   * unknown hotkey, wrong API key) before a byte of the body is read. Not a proof: `user` or `registered` still follows.
   */
  preflight: (options?: { registered?: boolean }) => RequestHandler;
  launchToken: RequestHandler;
}

export const callerOf = (res: Response): Caller => res.locals.caller as Caller;
export const optionalCallerOf = (res: Response): Caller | null => (res.locals.caller as Caller | undefined) ?? null;
export const minerOf = (res: Response): RegisteredMiner => res.locals.miner as RegisteredMiner;
export const verifiedHotkeyOf = (res: Response): string => res.locals.verifiedHotkey as string;
export const launchOf = (res: Response): Launch => res.locals.launch as Launch;
