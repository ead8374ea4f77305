import type { Knex } from 'knex';
import { UNIQUE_VIOLATION, sqlState, violatedConstraint } from '../../clients/postgres.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';

export interface User {
  userId: string;
  username: string;
  hotkey: string;
  coldkey: string;
  paymentAddress: string;
  permissionsBitmask: number;
  logoId: string | null;
  createdAt: Date;
}

export interface NewUser extends Omit<User, 'createdAt' | 'logoId'> {
  paymentSecretSealed: Buffer;
  fingerprintHash: string;
}

interface UserColumns {
  user_id: string;
  username: string;
  hotkey: string;
  coldkey: string;
  payment_address: string;
  permissions_bitmask: number;
  logo_id: string | null;
  created_at: Date;
}
const COLUMNS = [
  'user_id',
  'username',
  'hotkey',
  'coldkey',
  'payment_address',
  'permissions_bitmask',
  'logo_id',
  'created_at',
] as const;

const userOf = (row: UserColumns): User => ({
  userId: row.user_id,
  username: row.username,
  hotkey: row.hotkey,
  coldkey: row.coldkey,
  paymentAddress: row.payment_address,
  permissionsBitmask: row.permissions_bitmask,
  logoId: row.logo_id,
  createdAt: row.created_at,
});

export class UserStore {
  readonly #db: Knex;
  constructor(db: Knex) {
    this.#db = db;
  }

  /** 409 when hotkey or name is taken, whoever came first. */
  async create(user: NewUser): Promise<User> {
    try {
      const rows: UserColumns[] = await this.#db('users')
        .insert({
          user_id: user.userId,
          username: user.username,
          hotkey: user.hotkey,
          coldkey: user.coldkey,
          payment_address: user.paymentAddress,
          payment_secret_sealed: user.paymentSecretSealed,
          fingerprint_hash: user.fingerprintHash,
          permissions_bitmask: user.permissionsBitmask,
        })
        .returning([...COLUMNS]);
      return userOf(rows[0] as UserColumns);
    } catch (err) {
      if (sqlState(err) !== UNIQUE_VIOLATION) throw err;
      const what =
        violatedConstraint(err) === 'users_username_lower'
          ? 'this username is taken'
          : 'this hotkey is already registered';
      throw new Refusal('resource.conflict', what, { cause: err });
    }
  }

  async byId(userId: string): Promise<User | null> {
    const row = await this.#db<UserColumns>('users')
      .where({ user_id: userId })
      .first(...COLUMNS);
    return row ? userOf(row) : null;
  }

  async isNameTaken(username: string): Promise<boolean> {
    return (await this.#db('users').whereRaw('lower(username) = lower(?)', [username]).first('user_id')) !== undefined;
  }

  /** Micro-dollars: the sum of the ledger. What invocations cost is booked there by the gateway's flusher (§5.7). */
  async balanceMicroUsd(userId: string): Promise<number> {
    const row = await this.#db('ledger')
      .where({ user_id: userId })
      .sum<{ balance: string | null }[]>({ balance: 'amount_micro_usd' })
      .first<{ balance: string | null } | undefined>();
    return Number(row?.balance ?? 0);
  }

  /** Replaces the fingerprint of the one user with this key; how many matched (a coldkey may own several users). */
  async changeFingerprint(by: { hotkey: string } | { coldkey: string }, fingerprintHash: string): Promise<number> {
    return this.#db.transaction(async (trx) => {
      const matches = await trx('users').where(by).forUpdate().select<{ user_id: string }[]>('user_id');
      if (matches.length === 1) await trx('users').where(by).update({ fingerprint_hash: fingerprintHash });
      return matches.length;
    });
  }

  /** Notes one try to register and says whether it is within the limit; every try counts, refused ones too. */
  async noteSignup(ip: string, limit: number): Promise<boolean> {
    return this.#db.transaction(async (trx) => {
      await trx.raw('select pg_advisory_xact_lock(hashtextextended(?, 0))', [`signup:${ip}`]);
      const tried = await trx('signup_attempts')
        .where({ ip })
        .whereRaw("attempted_at >= now() - interval '24 hours'")
        .count<{ count: number }[]>('* as count');
      const count = tried[0]?.count ?? 0;
      // Past the limit one more row would only keep a patient caller out and the table growing.
      if (count <= limit) await trx('signup_attempts').insert({ ip });
      return count < limit;
    });
  }
}
