import type { ValidatorDeps } from '../deps.ts';
import { createPaymentKey, paymentSecretContext } from '../../../activities/validator/users/payment-key.ts';
import { fingerprintHash, randomAlphanumeric } from '../../../activities/validator/users/fingerprint.ts';
import type { User, UserStore } from '../../../activities/validator/users/user-store.ts';
import { isUsername } from '../../../workflows/domain/auth/users.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { userIdOf } from '../../../workflows/domain/ids.ts';
import { isSs58 } from '../auth/verify-hotkey.ts';

/** What the SDK sends as token to every network but the public one (spec/validator-api.md §2.1 note 1). */
const OPEN_TOKEN = 'replaceme';

/** Creates a user for a proven hotkey; the fingerprint is in this answer and nowhere else. */
export async function registerUser(
  { config, box }: Pick<ValidatorDeps, 'config' | 'box'>,
  users: UserStore,
  {
    hotkey,
    username,
    coldkey,
    token,
  }: { hotkey: string; username: string; coldkey: string; token: string | undefined },
): Promise<{ user: User; fingerprint: string }> {
  if (!token) throw new Refusal('request.invalid', 'a registration token is required: ?token=…');
  if (!config.CANOPY_OPEN_REGISTRATION)
    throw new Refusal(
      'auth.forbidden',
      'registration is closed on this network: ask its operator to open it (CANOPY_OPEN_REGISTRATION)',
    );
  if (token !== OPEN_TOKEN)
    throw new Refusal(
      'auth.forbidden',
      `registration token is not valid: this network is open, register with token=${OPEN_TOKEN}`,
    );
  if (!isUsername(username))
    throw new Refusal('request.invalid', 'username must be 3 to 15 letters, digits, "_" or "-"');
  if (!isSs58(coldkey)) throw new Refusal('request.invalid', 'coldkey is not an SS58 address');
  const fingerprint = randomAlphanumeric(32);
  const hash = fingerprintHash(fingerprint);
  const userId = userIdOf(hash);
  const payment = await createPaymentKey();
  const user = await users.create({
    userId,
    username,
    hotkey,
    coldkey,
    paymentAddress: payment.address,
    paymentSecretSealed: box.seal(payment.mnemonic, paymentSecretContext(userId)),
    fingerprintHash: hash,
    permissionsBitmask: config.CANOPY_NEW_USER_PERMISSIONS,
  });
  return { user, fingerprint };
}
