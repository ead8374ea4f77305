import type { IncomingHttpHeaders } from 'node:http';
import { cryptoWaitReady } from '@polkadot/util-crypto';
import { verifySignature } from '../../../activities/clients/hotkey.ts';
import type { AuthStore } from '../../../activities/validator/auth/auth-store.ts';
import { fingerprintHash } from '../../../activities/validator/users/fingerprint.ts';
import type { UserStore } from '../../../activities/validator/users/user-store.ts';
import { HOTKEY_HEADER, isFreshNonce, NONCE_HEADER, SIGNATURE_HEADER } from '../../../workflows/domain/auth/signing.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { isSs58 } from '../auth/verify-hotkey.ts';

const COLDKEY_HEADER = 'x-chutes-coldkey';
const NONCE_TOLERANCE_S = 300;

/**
 * Proof is in the request itself: a signature over `{key}:{new fingerprint}:{nonce}` by the hotkey or the coldkey, each
 * checked against its own key (in the reference the coldkey is checked against the hotkey, so it never works; §2.1).
 */
export async function changeFingerprint(
  { auth, users, nowMs }: { auth: AuthStore; users: UserStore; nowMs: number },
  headers: IncomingHttpHeaders,
  fingerprint: string,
): Promise<void> {
  const refused = new Refusal('auth.unauthorized', 'request signature is not valid');
  const byHotkey = headers[HOTKEY_HEADER] !== undefined;
  const key = headers[byHotkey ? HOTKEY_HEADER : COLDKEY_HEADER];
  const nonce = headers[NONCE_HEADER];
  const signature = headers[SIGNATURE_HEADER];
  if (typeof key !== 'string' || typeof nonce !== 'string' || typeof signature !== 'string') throw refused;
  if (!isSs58(key) || !isFreshNonce(nonce, nowMs / 1000, NONCE_TOLERANCE_S)) throw refused;
  await cryptoWaitReady();
  if (!verifySignature(`${key}:${fingerprint}:${nonce}`, signature, key)) throw refused;
  const seenUntilMs = (Number(nonce) + NONCE_TOLERANCE_S) * 1000 + 60_000;
  if (!(await auth.rememberSignature(Buffer.from(signature.replace(/^0x/, ''), 'hex'), seenUntilMs)))
    throw new Refusal('auth.replayed', 'this signed request was already received');
  const matched = await users.changeFingerprint(
    byHotkey ? { hotkey: key } : { coldkey: key },
    fingerprintHash(fingerprint),
  );
  if (matched === 0) throw refused;
  if (matched > 1)
    throw new Refusal('resource.conflict', 'this coldkey owns several users: sign with the hotkey of the one you mean');
}
