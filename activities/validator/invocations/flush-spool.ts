import { basename } from 'node:path';
import type { Knex } from 'knex';
import type { Logger } from '../../clients/log.ts';
import { sqlState } from '../../clients/postgres.ts';
import type { InvocationRecord } from '../../../workflows/domain/metering/record.ts';
import { loadInvocations } from './invocation-store.ts';
import { readSegment, type Spool } from './spool.ts';

/** Past this a batch is split, so that a spool grown over an outage does not become one transaction. */
const BATCH = 5000;

export interface FlushOptions {
  spool: Spool;
  db: Knex;
  log: Logger;
  onLoaded: (records: readonly InvocationRecord[]) => void;
}

/**
 * Carries every closed segment into Postgres and deletes it after the commit; a crash between the two repeats a load
 * that changes nothing. Throws when Postgres is away: the segments stay for the next call. Returns rows loaded anew.
 */
export async function flushSpool({ spool, db, log, onLoaded }: FlushOptions): Promise<number> {
  let loaded = 0;
  for (const file of spool.seal()) {
    const { records, torn } = await readSegment(file);
    if (torn > 0) log.error({ event: 'spool.torn', segment: basename(file), lines: torn }, 'spool.torn');
    for (let at = 0; at < records.length; at += BATCH) {
      const batch = records.slice(at, at + BATCH);
      loaded += await load(batch, { spool, db, log, onLoaded });
      onLoaded(batch);
    }
    await spool.remove(file);
  }
  return loaded;
}

/** Ledger entries of a batch are named by its first record: the same batch has the same name in every attempt. */
async function load(batch: readonly InvocationRecord[], options: FlushOptions): Promise<number> {
  const first = batch[0];
  if (!first) return 0;
  try {
    return (await loadInvocations(options.db, batch, first.invocationId)).loaded;
  } catch (err) {
    if (!isDataError(err)) throw err;
    if (batch.length === 1) {
      options.log.error({ event: 'spool.rejected', invocationId: first.invocationId, err }, 'spool.rejected');
      options.spool.setAside(batch);
      return 0;
    }
    // One bad record must not hold up the rest for ever.
    const middle = Math.ceil(batch.length / 2);
    return (await load(batch.slice(0, middle), options)) + (await load(batch.slice(middle), options));
  }
}

/** Postgres refuses the data itself (classes 22 and 23), as opposed to being away. */
const isDataError = (err: unknown): boolean => /^(22|23)/.test(sqlState(err) ?? '');
