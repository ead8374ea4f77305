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

/** An instance whose miner may not have one any more. */
export interface Orphan {
  instanceId: string;
  minerHotkey: string;
  cause: 'left' | 'blacklisted';
}

/** `kept`: there was nothing to go by, so the rows stay as they are. */
export type MetagraphSync =
  | { kind: 'synced'; members: number; removed: number; orphans: Orphan[] }
  | { kind: 'kept'; reason: string };

/** The rest keep their rows and are found by the next look: a run's result and history stay small. */
const MOST_ORPHANS = 500;

/**
 * Reads the snapshot file and makes the table say the same: members upserted, absent ones removed, all in one
 * transaction. A file that is missing, unreadable, malformed or empty is no evidence that anybody left.
 *
 * `lookedAtMs` is the moment of this look and the same in every attempt of it. Instances are orphans when their miner is
 * blacklisted, or was missing in this look and in the one before: one bad snapshot costs a miner its launches, not its
 * instances.
 */
export function createMetagraphActivities({ db, file }: { db: Knex; file: string | undefined }) {
  return {
    async syncMetagraph({ netuid, lookedAtMs }: { netuid: number; lookedAtMs: number }): Promise<MetagraphSync> {
      const members = file === undefined ? 'no snapshot file is configured' : await readMembers(file);
      if (typeof members === 'string') return { kind: 'kept', reason: members };
      return db.transaction(async (trx): Promise<MetagraphSync> => {
        const syncedAt = new Date(lookedAtMs);
        const orphans = await listOrphans(
          trx,
          netuid,
          members.map(({ hotkey }) => hotkey),
          syncedAt,
        );
        await trx('metagraph_nodes')
          .insert(members.map((member) => ({ netuid, ...rowOf(member), synced_at: syncedAt })))
          .onConflict(['netuid', 'hotkey'])
          .merge(['coldkey', 'uid', 'stake_rao', 'host', 'port', 'synced_at']); // a blacklisting is ours and stays
        const hotkeys = members.map(({ hotkey }) => hotkey);
        const removed = await trx('metagraph_nodes').where({ netuid }).whereNotIn('hotkey', hotkeys).delete();
        return { kind: 'synced', members: members.length, removed, orphans };
      });
    },
  };
}
export type MetagraphActivities = ReturnType<typeof createMetagraphActivities>;

/** Reads the table as the look before left it: who is neither there nor in this snapshot was missing twice. */
async function listOrphans(
  trx: Knex.Transaction,
  netuid: number,
  hotkeys: readonly string[],
  lookedAt: Date,
): Promise<Orphan[]> {
  const lookBefore = await trx('metagraph_nodes').where({ netuid }).where('synced_at', '<', lookedAt).first('hotkey');
  const rows = await trx('instances as i')
    .leftJoin('metagraph_nodes as m', (join) => join.on('m.hotkey', 'i.miner_hotkey').andOnVal('m.netuid', netuid))
    .where((either) => {
      void either.whereNotNull('m.blacklist_reason');
      if (lookBefore)
        void either.orWhere((left) => void left.whereNull('m.hotkey').whereNotIn('i.miner_hotkey', [...hotkeys]));
    })
    .orderBy('i.instance_id')
    .limit(MOST_ORPHANS)
    .select<{ instance_id: string; miner_hotkey: string; member: string | null }[]>(
      'i.instance_id',
      'i.miner_hotkey',
      'm.hotkey as member',
    );
  return rows.map(({ instance_id: instanceId, miner_hotkey: minerHotkey, member }) => ({
    instanceId,
    minerHotkey,
    cause: member === null ? 'left' : 'blacklisted',
  }));
}

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
