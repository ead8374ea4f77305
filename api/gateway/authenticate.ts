import { apiKeyHmac, isSameHmac } from '../../activities/validator/auth/api-key-hmac.ts';
import type { StoredKey } from '../../activities/validator/invocations/routing-store.ts';
import type { RoutedUser } from '../../workflows/domain/routing/routed.ts';
import type { RoutingTable } from './routing-table.ts';

const KEY = /^cpk_([a-f0-9]{32})\.([a-f0-9]{32})\.[a-zA-Z0-9]{32}$/;
const withDashes = (hex: string): string => hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');

/** The caller an `Authorization` header proves, or null. The last word counts: `Bearer cpk_…`, `Basic cpk_…`, `cpk_…` (§1.3). */
export function authenticate(
  header: string | undefined,
  table: RoutingTable,
  pepperHex: string,
): { key: StoredKey; user: RoutedUser } | null {
  const secret = header?.trim().split(' ').pop() ?? '';
  const parts = KEY.exec(secret);
  const key = parts?.[1] ? table.key(withDashes(parts[1])) : null;
  if (!key || withDashes(parts?.[2] ?? '') !== key.userId) return null;
  if (!isSameHmac(apiKeyHmac(pepperHex, secret), key.secretHmac)) return null;
  const user = table.user(key.userId);
  return user && { key, user };
}
