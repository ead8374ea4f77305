import type { Knex } from 'knex';
import { scopeOf, type Scope, type StoredScope } from '../../../workflows/domain/auth/api-keys.ts';

export interface AccountRow {
  userId: string;
  username: string;
  hotkey: string;
  permissionsBitmask: number;
}

export interface ApiKeyRow {
  account: AccountRow;
  admin: boolean;
  scopes: Scope[];
  secretHmac: Buffer;
  lastUsedAt: Date | null;
}

export interface MetagraphRow {
  hotkey: string;
  coldkey: string;
  uid: number;
  blacklistReason: string | null;
}

/** A key's `last_used_at` is this exact: every write of `api_keys` makes the gateways reload. */
const LAST_USED_RESOLUTION_MS = 10 * 60_000;

const account = (row: AccountColumns): AccountRow => ({
  userId: row.user_id,
  username: row.username,
  hotkey: row.hotkey,
  permissionsBitmask: row.permissions_bitmask,
});
interface AccountColumns {
  user_id: string;
  username: string;
  hotkey: string;
  permissions_bitmask: number;
}

/** What proving a caller needs of the database. No cache: a revoked key is revoked. */
export class AuthStore {
  readonly #db: Knex;
  constructor(db: Knex) {
    this.#db = db;
  }

  async accountByHotkey(hotkey: string): Promise<AccountRow | null> {
    const row = await this.#db<AccountColumns>('users')
      .where({ hotkey })
      .first('user_id', 'username', 'hotkey', 'permissions_bitmask');
    return row ? account(row) : null;
  }

  /** Both segments of the key must agree with the row. */
  async apiKey(apiKeyId: string, userId: string): Promise<ApiKeyRow | null> {
    const row = await this.#db('api_keys as k')
      .join('users as u', 'u.user_id', 'k.user_id')
      .where({ 'k.api_key_id': apiKeyId, 'k.user_id': userId })
      .first<
        | (AccountColumns & { admin: boolean; scopes: StoredScope[]; secret_hmac: Buffer; last_used_at: Date | null })
        | undefined
      >(
        'u.user_id',
        'u.username',
        'u.hotkey',
        'u.permissions_bitmask',
        'k.admin',
        'k.scopes',
        'k.secret_hmac',
        'k.last_used_at',
      );
    if (!row) return null;
    return {
      account: account(row),
      admin: row.admin,
      scopes: row.scopes.map(scopeOf),
      secretHmac: row.secret_hmac,
      lastUsedAt: row.last_used_at,
    };
  }

  async noteUse(apiKeyId: string, lastUsedAt: Date | null, nowMs: number): Promise<void> {
    if (lastUsedAt && nowMs - lastUsedAt.getTime() < LAST_USED_RESOLUTION_MS) return;
    await this.#db('api_keys')
      .where({ api_key_id: apiKeyId })
      .update({ last_used_at: new Date(nowMs) });
  }

  async metagraphNode(netuid: number, hotkey: string): Promise<MetagraphRow | null> {
    const row = await this.#db('metagraph_nodes')
      .where({ netuid, hotkey })
      .first<{ hotkey: string; coldkey: string; uid: number; blacklist_reason: string | null } | undefined>(
        'hotkey',
        'coldkey',
        'uid',
        'blacklist_reason',
      );
    return row
      ? { hotkey: row.hotkey, coldkey: row.coldkey, uid: row.uid, blacklistReason: row.blacklist_reason }
      : null;
  }

  /** True the first time; false when this signature was seen. Two at once: exactly one gets true. */
  async rememberSignature(signature: Uint8Array, expiresAtMs: number): Promise<boolean> {
    const inserted = await this.#db('seen_signatures')
      .insert({ signature: Buffer.from(signature), expires_at: new Date(expiresAtMs) })
      .onConflict('signature')
      .ignore()
      .returning('signature');
    return inserted.length === 1;
  }
}
