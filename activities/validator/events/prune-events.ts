import type { Knex } from 'knex';

/** The outbox is for delivery, not history: sockets that were away ask for lists. How many rows went. */
export const pruneEvents = (db: Knex, keepDays: number): Promise<number> =>
  db('events').whereRaw('created_at < now() - make_interval(days => ?)', [keepDays]).delete();
