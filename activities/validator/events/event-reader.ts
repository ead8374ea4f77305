import type { ClientBase } from 'pg';
import type { EventEnvelope } from '../../../workflows/domain/protocol/events.ts';

export interface OutboxEvent {
  seq: number;
  channel: string;
  payload: EventEnvelope;
}

/** How far back a number may be missing at the start because its transaction has not committed yet. */
const START_WINDOW = 1_000;
const BATCH = 500;
/** Longer than any statement may run (activities/clients/postgres.ts): by then a missing number was rolled back. */
const GAP_MS = 300_000;
const MAX_GAPS = 10_000;

/**
 * Reads the outbox once and in full. Numbers are given when a row is inserted and seen when it is committed, so a lower one
 * may appear after a higher: numbers skipped are asked for again until they can no longer come.
 */
export class EventReader {
  #position: number | null = null;
  readonly #gaps = new Map<number, number>();

  /** Events committed since the last call; the first call only takes the position: what was before is not replayed. */
  async next(client: ClientBase, nowMs: number): Promise<OutboxEvent[]> {
    if (this.#position === null) {
      await this.#begin(client, nowMs);
      return [];
    }
    for (const [seq, sinceMs] of this.#gaps) if (nowMs - sinceMs > GAP_MS) this.#gaps.delete(seq);
    const { rows } = await client.query<{ seq: string; channel: string; payload: EventEnvelope }>(
      'select seq::text, channel, payload from events where seq > $1 or seq = any($2::bigint[]) order by events.seq limit $3',
      [this.#position, [...this.#gaps.keys()], BATCH],
    );
    const events = rows.map((row) => ({ ...row, seq: Number(row.seq) }));
    for (const { seq } of events) this.#advance(seq, nowMs);
    return events.length < BATCH ? events : [...events, ...(await this.next(client, nowMs))];
  }

  async #begin(client: ClientBase, nowMs: number): Promise<void> {
    const { rows } = await client.query<{ seq: string; missing: string[] }>(
      `with last as (select coalesce(max(seq), 0) as seq from events)
       select last.seq::text as seq, array(
         select each from generate_series(greatest(1, last.seq - $1), last.seq) each
          where not exists (select from events where seq = each))::text[] as missing from last`,
      [START_WINDOW],
    );
    this.#position = Number(rows[0]?.seq ?? 0);
    for (const seq of rows[0]?.missing ?? []) this.#gaps.set(Number(seq), nowMs);
  }

  #advance(seq: number, nowMs: number): void {
    if (this.#gaps.delete(seq)) return;
    const from = Math.max((this.#position ?? 0) + 1, seq - MAX_GAPS);
    for (let missing = from; missing < seq && this.#gaps.size < MAX_GAPS; missing++) this.#gaps.set(missing, nowMs);
    this.#position = seq;
  }
}
