import type { Knex } from 'knex';

export interface UsageBucket {
  bucket: Date;
  chuteId: string | null;
  amountMicroUsd: number;
  count: number;
}

export interface UsageFilter {
  userId: string;
  chuteId: string | null;
  perChute: boolean;
  from: Date | null;
  to: Date | null;
  limit: number;
  offset: number;
}

/** Reads of what a user spent and may spend. */
export class UsageStore {
  readonly #db: Knex;
  constructor(db: Knex) {
    this.#db = db;
  }

  async quotas(userId: string): Promise<{ chuteId: string; quota: number; updatedAt: Date }[]> {
    const rows = await this.#db('quotas')
      .where({ user_id: userId })
      .orderBy('chute_id')
      .select<{ chute_id: string; quota: number; updated_at: Date }[]>('chute_id', 'quota', 'updated_at');
    return rows.map((row) => ({ chuteId: row.chute_id, quota: row.quota, updatedAt: row.updated_at }));
  }

  /** What a counter holds for a UTC day (`YYYY-MM-DD`). */
  async used(userId: string, counter: string, day: string): Promise<number> {
    const row = await this.#db('quota_usage')
      .where({ user_id: userId, chute_id: counter, day })
      .first<{ used: string } | undefined>('used');
    return Number(row?.used ?? 0);
  }

  /** Hourly buckets of answered invocations, newest first. A free one counts and costs nothing. */
  async usage(filter: UsageFilter): Promise<{ total: number; buckets: UsageBucket[] }> {
    const hour = this.#db.raw("date_trunc('hour', started_at, 'UTC')");
    const grouped = () => {
      const query = this.#db('invocations').where({ user_id: filter.userId }).whereNull('error_message').groupBy(hour);
      if (filter.chuteId) query.where({ chute_id: filter.chuteId });
      if (filter.from) query.where('started_at', '>=', filter.from);
      if (filter.to) query.where('started_at', '<', filter.to);
      if (filter.perChute) query.groupBy('chute_id');
      return query;
    };
    const counted = await this.#db
      .from(grouped().select(this.#db.raw('1')).as('buckets'))
      .count<{ count: number }[]>('* as count');
    const rows: { bucket: Date; chute_id?: string; amount: string; count: number }[] = await grouped()
      .select(
        this.#db.raw("date_trunc('hour', started_at, 'UTC') as bucket"),
        this.#db.raw('sum(case when free then 0 else amount_micro_usd end) as amount'),
        this.#db.raw('count(*) as count'),
        ...(filter.perChute ? ['chute_id'] : []),
      )
      .orderBy('bucket', 'desc')
      .modify((query) => (filter.perChute ? void query.orderBy('chute_id') : undefined))
      .limit(filter.limit)
      .offset(filter.offset);
    return {
      total: counted[0]?.count ?? 0,
      buckets: rows.map((row) => ({
        bucket: row.bucket,
        chuteId: row.chute_id ?? null,
        amountMicroUsd: Number(row.amount),
        count: row.count,
      })),
    };
  }
}
