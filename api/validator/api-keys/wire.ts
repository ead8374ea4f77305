import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { ApiKey } from '../../../activities/validator/auth/api-key-store.ts';
import {
  isApiKeyName,
  SCOPE_ACTIONS,
  SCOPE_OBJECT_TYPES,
  type StoredScope,
} from '../../../workflows/domain/auth/api-keys.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { pageOf, pageQuery } from '../../http/pagination.ts';

/** Shapes of spec/validator-api.md §2.2. */
const scopeBody = z.object({
  object_type: z.string().nullish(),
  object_id: z.string().max(256).nullish(),
  action: z.string().nullish(),
});
export const apiKeyBody = z.object({
  name: z.string(),
  admin: z.boolean(),
  scopes: z.array(scopeBody).max(200).nullish(),
});
export const apiKeyQuery = z.object({ ...pageQuery(), name: z.string().optional() });
const scopeResponse = z.object({
  scope_id: z.string(),
  object_type: z.string(),
  object_id: z.string().nullable(),
  method: z.string().nullable(),
  action: z.string().nullable(),
});
export const apiKeyResponse = z.object({
  api_key_id: z.string(),
  user_id: z.string(),
  admin: z.boolean(),
  name: z.string(),
  created_at: z.string(),
  last_used_at: z.string().nullable(),
  scopes: z.array(scopeResponse),
});
export const apiKeyCreated = apiKeyResponse.extend({ secret_key: z.string() });
export const apiKeyPage = pageOf(apiKeyResponse);
export const apiKeyDeleted = z.object({ api_key_id: z.string(), deleted: z.boolean() });

/** The key asked for, or a 400. The CLI sends each scope twice: one is kept. Scopes of an admin key are dropped. */
export function readApiKeyBody({ name, admin, scopes }: z.infer<typeof apiKeyBody>): {
  name: string;
  admin: boolean;
  scopes: StoredScope[];
} {
  if (!isApiKeyName(name))
    throw new Refusal('request.invalid', 'name must be 1 to 24 letters, digits, spaces or any of "$", "_", ".", "-"');
  const unique = new Map<string, StoredScope>();
  for (const scope of admin ? [] : (scopes ?? [])) {
    const objectType = SCOPE_OBJECT_TYPES.find((type) => type === scope.object_type);
    if (!objectType)
      throw new Refusal('request.invalid', `object_type must be one of ${SCOPE_OBJECT_TYPES.join(', ')}`);
    const action = SCOPE_ACTIONS.find((each) => each === scope.action) ?? null;
    if (action === null && scope.action)
      throw new Refusal('request.invalid', `action must be one of ${SCOPE_ACTIONS.join(', ')}, or null`);
    const objectId = scope.object_id || null;
    unique.set(JSON.stringify([objectType, objectId, action]), {
      scope_id: randomUUID(),
      object_type: objectType,
      object_id: objectId,
      action,
    });
  }
  return { name, admin, scopes: [...unique.values()] };
}

/** The reference names the field `method` and fills it from nothing: both names, both filled. */
export const renderApiKey = (key: ApiKey): z.infer<typeof apiKeyResponse> => ({
  api_key_id: key.apiKeyId,
  user_id: key.userId,
  admin: key.admin,
  name: key.name,
  created_at: key.createdAt.toISOString(),
  last_used_at: key.lastUsedAt?.toISOString() ?? null,
  scopes: key.scopes.map((scope) => ({ ...scope, method: scope.action })),
});
