import { apiKeyHmac, isSameHmac } from '../../activities/validator/auth/api-key-hmac.ts';
import type { StoredKey } from '../../activities/validator/invocations/routing-store.ts';
import { parseApiKey } from '../../workflows/domain/auth/api-keys.ts';
import type { RoutedUser } from '../../workflows/domain/routing/routed.ts';
import type { RoutingTable } from './routing-table.ts';

/** The caller an `Authorization` header proves, or null. */
export function authenticate(
  header: string | undefined,
  table: RoutingTable,
  pepperHex: string,
): { key: StoredKey; user: RoutedUser } | null {
  const presented = parseApiKey(header ?? '');
  const key = presented && table.key(presented.apiKeyId);
  if (!key || presented.userId !== key.userId) return null;
  if (!isSameHmac(apiKeyHmac(pepperHex, presented.secret), key.secretHmac)) return null;
  const user = table.user(key.userId);
  return user && { key, user };
}
