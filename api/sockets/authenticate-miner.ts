import { cryptoWaitReady } from '@polkadot/util-crypto';
import { z } from 'zod';
import type { AuthStore } from '../../activities/validator/auth/auth-store.ts';
import { isSignedBy, readSignedHeaders } from '../validator/auth/verify-hotkey.ts';

const claimed = z.record(z.string().max(64), z.string().max(256));

/** The hotkey behind an `authenticate` message (spec/validator-api.md §4.1): signed for purpose `sockets`, in the
 * metagraph. null for anything else, malformed included. */
export async function authenticateMiner(
  store: AuthStore,
  netuid: number,
  message: unknown,
  nowMs: number,
): Promise<string | null> {
  const parsed = claimed.safeParse(message);
  if (!parsed.success) return null;
  const headers = Object.fromEntries(Object.entries(parsed.data).map(([name, value]) => [name.toLowerCase(), value]));
  const signed = readSignedHeaders(headers, nowMs / 1000);
  if (!signed) return null;
  await cryptoWaitReady();
  if (!isSignedBy(signed, 'sockets')) return null;
  return (await store.metagraphNode(netuid, signed.hotkey))?.hotkey ?? null;
}
