import type { Knex } from 'knex';
import { LRUCache } from 'lru-cache';
import { loadBalances, loadQuotaUsage } from '../../activities/validator/invocations/routing-store.ts';
import type { InvocationRecord } from '../../workflows/domain/metering/record.ts';
import { utcDay } from '../../workflows/domain/quotas/quota.ts';
import { takeToken, type Bucket, type BucketRule, type Taken } from '../../workflows/domain/quotas/token-bucket.ts';

/**
 * What callers have used and what they have left: Postgres' numbers as last read, plus what this gateway has admitted
 * or served and the flusher has not stored yet. Read and written without waiting; `refresh` brings in other gateways'.
 */
export class Accounts {
  readonly #rule: BucketRule;
  readonly #bornAtMs = Date.now();
  readonly #buckets = new LRUCache<string, Bucket>({ max: 100_000 });
  /** callers of the last minutes: the ones whose balance is worth reading */
  readonly #active = new LRUCache<string, true>({ max: 50_000, ttl: 600_000 });
  readonly #rechecked = new LRUCache<string, true>({ max: 10_000, ttl: 1_000 });
  #stored = new Map<string, number>();
  readonly #pending = new Map<string, number>();
  #balances = new Map<string, number>();
  readonly #unpaid = new Map<string, number>();

  constructor(rule: BucketRule) {
    this.#rule = rule;
  }

  takeRequest(keyId: string, nowMs: number): Taken & { limit: number } {
    const taken = takeToken(this.#buckets.get(keyId) ?? null, this.#rule, nowMs);
    this.#buckets.set(keyId, taken.bucket);
    return { ...taken, limit: this.#rule.burst };
  }

  used(userId: string, counter: string, day: string): number {
    const key = `${day}/${userId}/${counter}`;
    return (this.#stored.get(key) ?? 0) + (this.#pending.get(key) ?? 0);
  }

  /** Counts a call under way, so that a burst cannot pass a quota's end; given back when it ends, served or not. */
  reserve(userId: string, counter: string, day: string, counts: number): () => void {
    const key = `${day}/${userId}/${counter}`;
    add(this.#pending, key, counts);
    return () => add(this.#pending, key, -counts);
  }

  /** 0 for a user never seen; marks the user as worth refreshing. */
  balance(userId: string): number {
    this.#active.set(userId, true);
    return (this.#balances.get(userId) ?? 0) - (this.#unpaid.get(userId) ?? 0);
  }

  /** A record went to the spool: its price and its share of the quota count from now on. */
  onSpooled({ userId, creditUserId, amountMicroUsd, quota }: InvocationRecord): void {
    if (quota) add(this.#pending, `${quota.day}/${userId}/${quota.counter}`, quota.counts);
    if (amountMicroUsd === 0) return;
    add(this.#unpaid, userId, amountMicroUsd);
    if (creditUserId) add(this.#unpaid, creditUserId, -amountMicroUsd);
  }

  /** Records reached Postgres: they move from ours to the stored numbers. Those of an earlier life were never ours. */
  onLoaded(records: readonly InvocationRecord[]): void {
    for (const record of records) {
      const wasOurs = record.completedAtMs >= this.#bornAtMs;
      if (record.quota) {
        const key = `${record.quota.day}/${record.userId}/${record.quota.counter}`;
        add(this.#stored, key, record.quota.counts);
        if (wasOurs) add(this.#pending, key, -record.quota.counts);
      }
      if (record.amountMicroUsd === 0) continue;
      for (const [userId, amount] of [
        [record.userId, record.amountMicroUsd],
        [record.creditUserId, -record.amountMicroUsd],
      ] as const) {
        if (userId === null) continue;
        if (this.#balances.has(userId)) add(this.#balances, userId, -amount);
        if (wasOurs) add(this.#unpaid, userId, -amount);
      }
    }
  }

  async refresh(db: Knex, nowMs: number): Promise<void> {
    const day = utcDay(nowMs);
    const usage = await loadQuotaUsage(db, day);
    this.#stored = new Map([...usage].map(([key, used]) => [`${day}/${key}`, used]));
    for (const key of this.#pending.keys())
      if (!key.startsWith(day) && this.#pending.get(key) === 0) this.#pending.delete(key);
    for (const entry of await loadBalances(db, [...this.#active.keys()])) this.#balances.set(...entry);
  }

  /** At start, so that the first call of a paying user is not refused. */
  async loadAll(db: Knex, userIds: readonly string[], nowMs: number): Promise<void> {
    await this.refresh(db, nowMs);
    for (let at = 0; at < userIds.length; at += 10_000) {
      for (const entry of await loadBalances(db, userIds.slice(at, at + 10_000))) this.#balances.set(...entry);
    }
  }

  /**
   * Before a caller is refused for an empty balance: was it filled a moment ago, or is the caller new here? At most one
   * query a second and caller; waits `withinMs` at most and then believes memory. True when memory was brought up to date.
   */
  async recheck(db: Knex, userId: string, withinMs = 500): Promise<boolean> {
    if (this.#rechecked.has(userId)) return false;
    this.#rechecked.set(userId, true);
    const read = loadBalances(db, [userId]).then(
      ([entry]) => {
        if (entry) this.#balances.set(...entry);
        return true;
      },
      () => false, // Postgres is away: the feed reports it
    );
    let late: NodeJS.Timeout | undefined;
    const timeout = new Promise<boolean>((resolve) => (late = setTimeout(() => resolve(false), withinMs)));
    return Promise.race([read, timeout]).finally(() => clearTimeout(late));
  }
}

function add(map: Map<string, number>, key: string, by: number): void {
  const sum = (map.get(key) ?? 0) + by;
  if (sum === 0) map.delete(key);
  else map.set(key, sum);
}
