/** API keys: their text, what a request counts as, and whether a key covers it (spec/validator-api.md §1.3). */

export type ScopeAction = 'read' | 'write' | 'delete' | 'invoke';
export type ScopeObjectType = 'images' | 'chutes' | 'invocations';

export const SCOPE_ACTIONS: readonly ScopeAction[] = ['read', 'write', 'delete', 'invoke'];
export const SCOPE_OBJECT_TYPES: readonly ScopeObjectType[] = ['images', 'chutes', 'invocations'];

/** null = any. */
export interface Scope {
  objectType: ScopeObjectType;
  objectId: string | null;
  action: ScopeAction | null;
}

/** How `api_keys.scopes` holds them. */
export interface StoredScope {
  scope_id: string;
  object_type: ScopeObjectType;
  object_id: string | null;
  action: ScopeAction | null;
}

/** What a request wants. `objectId` null: the collection, or several things at once. */
export interface Access {
  action: ScopeAction;
  objectType: string;
  objectId: string | null;
}

export interface ParsedApiKey {
  apiKeyId: string;
  userId: string;
  /** the whole key, as the HMAC covers it */
  secret: string;
}

/** `cpk_<key id>.<user id>.<32 random>`, 102 characters; ids without dashes. */
export function formatApiKey(apiKeyId: string, userId: string, random: string): string {
  return `cpk_${apiKeyId.replaceAll('-', '')}.${userId.replaceAll('-', '')}.${random}`;
}

/** The last space-separated word of `Authorization`, whatever stands before it; null when that is not an API key. */
export function parseApiKey(authorization: string): ParsedApiKey | null {
  const secret = authorization.slice(authorization.lastIndexOf(' ') + 1);
  const match = /^cpk_([a-f0-9]{32})\.([a-f0-9]{32})\.[a-zA-Z0-9]{32}$/.exec(secret);
  return match ? { apiKeyId: dashed(match[1] ?? ''), userId: dashed(match[2] ?? ''), secret } : null;
}

const dashed = (hex: string): string => hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');

/**
 * What a request of the API counts as; the gateway's own requests (host names, `/v1/*`) it builds itself.
 * The type is the first path segment (the reference takes the last, which makes scoped keys useless). The object is the
 * second, where it can name one: a scope for one object never covers a collection.
 */
export function accessOf(method: string, path: string): Access {
  const [objectType = '', objectId, ...rest] = path.split('/').filter((segment) => segment !== '');
  if (method === 'POST' && objectType === 'chutes' && objectId !== undefined && rest.length > 0)
    return { action: 'invoke', objectType, objectId };
  const action = method === 'GET' || method === 'HEAD' ? 'read' : method === 'DELETE' ? 'delete' : 'write';
  const named = objectId !== undefined && (rest.length === 0 || /^[0-9a-f-]{36}$/i.test(objectId));
  return { action, objectType, objectId: named ? objectId : null };
}

/** Whether a key covers an access. Scopes of an admin key mean nothing. */
export function covers(key: { admin: boolean; scopes: readonly Scope[] }, want: Access): boolean {
  if (key.admin) return true;
  return key.scopes.some(
    (scope) =>
      scope.objectType === want.objectType &&
      (scope.objectId === null || (want.objectId !== null && sameId(scope.objectId, want.objectId))) &&
      (scope.action === null || scope.action === want.action),
  );
}

const sameId = (left: string, right: string): boolean =>
  left === right || (/^[0-9a-f-]{36}$/i.test(left) && left.toLowerCase() === right.toLowerCase());

export const scopeOf = (stored: StoredScope): Scope => ({
  objectType: stored.object_type,
  objectId: stored.object_id,
  action: stored.action,
});

/** 1–24 characters: word characters, `$ . _ -`, space, or anything from U+0080 on (§2.2). */
export const isApiKeyName = (name: string): boolean => /^[\w$.\- \u0080-\u{10ffff}]{1,24}$/u.test(name);
