import { readFile } from 'node:fs/promises';
import type { Knex } from 'knex';
import { z } from 'zod';

const snapshot = z.array(
  z.object({
    hotkey: z.string().regex(/^[1-9A-HJ-NP-Za-km-z]{47,49}$/),
    coldkey: z.string().regex(/^[1-9A-HJ-NP-Za-km-z]{47,49}$/),
    uid: z.int().min(0).max(65_535),
    stake_rao: z.string().regex(/^[0-9]{1,39}$/),
    host: z.string().nullish(),
    port: z.int().min(0).max(65_535).nullish(),
  }),
);
type Member = z.output<typeof snapshot>[number];

/** `kept`: there was nothing to go by, so the rows stay as they are. */
export type MetagraphSync = { kind: 'synced'; members: number; removed: number } | { kind: 'kept'; reason: string };

/**
 * Reads the snapshot file and makes the table say the same: members upserted, absent ones removed, all in one
 * transaction. A file that is missing, unreadable, malformed or empty is no evidence that anybody left.
 */
export function createMetagraphActivities({ db, file }: { db: Knex; file: string | undefined }) {
  return {
    async syncMetagraph({ netuid }: { netuid: number }): Promise<MetagraphSync> {
      const members = file === undefined ? 'no snapshot file is configured' : await readMembers(file);
      if (typeof members === 'string') return { kind: 'kept', reason: members };
      return db.transaction(async (trx): Promise<MetagraphSync> => {
        const syncedAt = new Date();
        await trx('metagraph_nodes')
          .insert(members.map((member) => ({ netuid, ...rowOf(member), synced_at: syncedAt })))
          .onConflict(['netuid', 'hotkey'])
          .merge(['coldkey', 'uid', 'stake_rao', 'host', 'port', 'synced_at']); // a blacklisting is ours and stays
        const hotkeys = members.map(({ hotkey }) => hotkey);
        const removed = await trx('metagraph_nodes').where({ netuid }).whereNotIn('hotkey', hotkeys).delete();
        return { kind: 'synced', members: members.length, removed };
      });
    },
  };
}
export type MetagraphActivities = ReturnType<typeof createMetagraphActivities>;

/** The members, or why there are none to go by. */
async function readMembers(file: string): Promise<Member[] | string> {
  let content: unknown;
  try {
    content = JSON.parse(await readFile(file, 'utf8'));
  } catch (err) {
    return `snapshot is not readable: ${typeof err === 'object' && err !== null && 'code' in err ? String(err.code) : 'not JSON'}`;
  }
  const parsed = snapshot.safeParse(content);
  if (!parsed.success) return `snapshot is malformed at ${parsed.error.issues[0]?.path.join('.') ?? ''}`;
  if (parsed.data.length === 0) return 'snapshot is empty';
  const hotkeys = new Set(parsed.data.map(({ hotkey }) => hotkey));
  return hotkeys.size === parsed.data.length ? parsed.data : 'snapshot names a hotkey twice';
}

const rowOf = ({ hotkey, coldkey, uid, stake_rao, host, port }: Member) => ({
  hotkey,
  coldkey,
  uid,
  stake_rao,
  host: host ?? null,
  port: port ?? null,
});
