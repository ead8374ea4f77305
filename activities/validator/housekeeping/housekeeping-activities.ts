import { cancellationSignal, heartbeat } from '@temporalio/activity';
import type { Knex } from 'knex';
import type { BlobStore } from '../../clients/s3.ts';
import { sweepProofs } from './sweep-proofs.ts';

/** Rows that went, by table. */
export type Swept = Record<SweptTable, number>;
type SweptTable = (typeof SWEPT)[number]['table'];

const SWEPT = [
  // For delivery, not history: sockets that were away longer ask for lists.
  { table: 'events', isOld: "created_at < now() - interval '7 days'" },
  // Past its expiry a signature is refused for its age; the hour is for clocks that differ.
  { table: 'seen_signatures', isOld: "expires_at < now() - interval '1 hour'" },
  // Attempts count for 24 hours (spec/validator-api.md §1.7).
  { table: 'signup_attempts', isOld: "attempted_at < now() - interval '1 day'" },
  // Only today's counter decides anything; the rest is for a user who asks about the month.
  { table: 'quota_usage', isOld: "day < (now() at time zone 'utc')::date - 40" },
] as const;

/** So many at once hold their locks for milliseconds. */
const BATCH = 10_000;

export interface HousekeepingDeps {
  db: Knex;
  blobs: Pick<BlobStore, 'list' | 'delete'>;
  proofRetentionMs: number;
  batch?: number;
  nowMs?: () => number;
}

/** Deletes what no longer means anything to anybody. Run twice it deletes what grew old in between. */
export function createHousekeepingActivities({ batch = BATCH, ...deps }: HousekeepingDeps) {
  const { db } = deps;
  return {
    /** Objects of the proofs' store, by their age and by whose they are. */
    sweepOldProofs: (): Promise<{ deleted: number }> => sweepProofs(deps),

    async sweepOldRows(): Promise<Swept> {
      const swept: Swept = { events: 0, seen_signatures: 0, signup_attempts: 0, quota_usage: 0 };
      for (const { table, isOld } of SWEPT) {
        for (let count = batch; count === batch; swept[table] += count) {
          cancellationSignal().throwIfAborted();
          count = await db(table)
            .whereRaw(`ctid in (select ctid from ${table} where ${isOld} limit ${batch})`)
            .delete();
          heartbeat();
        }
      }
      return swept;
    },
  };
}
export type HousekeepingActivities = ReturnType<typeof createHousekeepingActivities>;
