import type { Knex } from 'knex';
import {
  MINER_CHANNEL,
  PUBLIC_CHANNEL,
  type EventEnvelope,
  type MinerEventData,
  type MinerEventReason,
  type PublicEventData,
  type PublicEventReason,
} from '../../../workflows/domain/protocol/events.ts';

/** Puts a message for miners into the outbox, in the caller's transaction: it is sent if and only if the write is.
 * The socket servers tail the table by `seq`, woken by NOTIFY. `to` (hotkeys) makes it a targeted message. */
export async function publishToMiners<Reason extends MinerEventReason>(
  db: Knex,
  reason: Reason,
  data: MinerEventData[Reason],
  options: { to?: string[]; message?: string } = {},
): Promise<void> {
  const payload: EventEnvelope = {
    reason,
    data,
    ...(options.message ? { message: options.message } : {}),
    ...(options.to ? { filter_recipients: options.to } : {}),
  };
  await db('events').insert({ channel: MINER_CHANNEL, payload: JSON.stringify(payload) });
}

/** The same for the public events socket. */
export async function publishToPublic<Reason extends PublicEventReason>(
  db: Knex,
  reason: Reason,
  data: PublicEventData[Reason],
  message: string,
): Promise<void> {
  const payload: EventEnvelope = { reason, data, message };
  await db('events').insert({ channel: PUBLIC_CHANNEL, payload: JSON.stringify(payload) });
}
