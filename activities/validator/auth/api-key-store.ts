import type { Knex } from 'knex';
import { sqlState, UNIQUE_VIOLATION } from '../../clients/postgres.ts';
import type { StoredScope } from '../../../workflows/domain/auth/api-keys.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';

export interface ApiKey {
  apiKeyId: string;
  userId: string;
  name: string;
  admin: boolean;
  scopes: StoredScope[];
  createdAt: Date;
  lastUsedAt: Date | null;
}

interface Columns {
  api_key_id: string;
  user_id: string;
  name: string;
  admin: boolean;
  scopes: StoredScope[];
  created_at: Date;
  last_used_at: Date | null;
}
const COLUMNS = ['api_key_id', 'user_id', 'name', 'admin', 'scopes', 'created_at', 'last_used_at'] as const;

const apiKeyOf = (row: Columns): ApiKey => ({
  apiKeyId: row.api_key_id,
  userId: row.user_id,
  name: row.name,
  admin: row.admin,
  scopes: row.scopes,
  createdAt: row.created_at,
  lastUsedAt: row.last_used_at,
});

/** A user's keys; every read and write names the user. */
export class ApiKeyStore {
  readonly #db: Knex;
  constructor(db: Knex) {
    this.#db = db;
  }

  /** 409 when the user has a key of this name. */
  async create(key: Omit<ApiKey, 'createdAt' | 'lastUsedAt'> & { secretHmac: Buffer }): Promise<ApiKey> {
    try {
      const rows: Columns[] = await this.#db('api_keys')
        .insert({
          api_key_id: key.apiKeyId,
          user_id: key.userId,
          name: key.name,
          admin: key.admin,
          secret_hmac: key.secretHmac,
          scopes: JSON.stringify(key.scopes),
        })
        .returning([...COLUMNS]);
      return apiKeyOf(rows[0] as Columns);
    } catch (err) {
      if (sqlState(err) !== UNIQUE_VIOLATION) throw err;
      throw new Refusal('resource.conflict', 'an API key of this name exists', { cause: err });
    }
  }

  async list(
    userId: string,
    { limit, offset }: { limit: number; offset: number },
  ): Promise<{ total: number; keys: ApiKey[] }> {
    const counted = await this.#db('api_keys').where({ user_id: userId }).count<{ count: number }[]>('* as count');
    const rows = await this.#db<Columns>('api_keys')
      .where({ user_id: userId })
      .orderBy([{ column: 'created_at', order: 'desc' }, { column: 'api_key_id' }])
      .limit(limit)
      .offset(offset)
      .select(...COLUMNS);
    return { total: counted[0]?.count ?? 0, keys: rows.map(apiKeyOf) };
  }

  async get(userId: string, apiKeyId: string): Promise<ApiKey | null> {
    const row = await this.#db<Columns>('api_keys')
      .where({ user_id: userId, api_key_id: apiKeyId })
      .first(...COLUMNS);
    return row ? apiKeyOf(row) : null;
  }

  /** False when there was none. */
  async delete(userId: string, apiKeyId: string): Promise<boolean> {
    return (await this.#db('api_keys').where({ user_id: userId, api_key_id: apiKeyId }).delete()) === 1;
  }
}
