import type { Knex } from 'knex';
import type { ChuteDefinition } from '../../../workflows/domain/chutes/chute-definition.ts';
import type { Launch } from '../../../workflows/domain/chutes/decide-launch.ts';
import { noticeGapMs, type RollingUpdate } from '../../../workflows/domain/chutes/plan-chute.ts';

/** SQL of the chute's own rows. Every function takes the connection, so that callers choose the transaction. */

export interface StoredChute {
  version: string;
  public: boolean;
  target_count: number;
  slug: string;
  user_id: string;
}

export const readChute = (db: Knex, chuteId: string): Promise<StoredChute | undefined> =>
  db<StoredChute>('chutes')
    .where({ chute_id: chuteId } as object)
    .first('version', 'public', 'target_count', 'slug', 'user_id');

/** Columns a deploy writes; name, slug, template and owner are set once (spec/validator-api.md §2.4.5). */
const deployedColumns = (definition: ChuteDefinition) => ({
  image_id: definition.imageId,
  version: definition.version,
  public: definition.public,
  code: definition.code,
  filename: definition.filename,
  ref_str: definition.refStr,
  tagline: definition.tagline,
  readme: definition.readme,
  tool_description: definition.toolDescription,
  logo_id: definition.logoId,
  node_selector: JSON.stringify(definition.nodeSelector),
  cords: JSON.stringify(definition.cords),
  concurrency: definition.concurrency,
  revision: definition.revision,
  max_instances: definition.maxInstances,
  scaling_threshold: definition.scalingThreshold,
  shutdown_after_seconds: definition.shutdownAfterSeconds,
  allow_external_egress: definition.allowExternalEgress,
  minimum_trust_level: definition.minimumTrustLevel,
  chutes_version: definition.chutesVersion,
});

export async function insertChute(db: Knex, definition: ChuteDefinition, slug: string): Promise<void> {
  await db('chutes').insert({
    chute_id: definition.chuteId,
    user_id: definition.userId,
    name: definition.name,
    slug,
    standard_template: definition.standardTemplate,
    ...deployedColumns(definition),
  });
}

export async function updateChute(db: Knex, definition: ChuteDefinition): Promise<void> {
  await db('chutes')
    .where({ chute_id: definition.chuteId })
    .update({ ...deployedColumns(definition), updated_at: db.fn.now() });
}

/** The row says what the workflow knows: written whole, removed when no update runs. */
export async function writeRollingUpdate(db: Knex, chuteId: string, rolling: RollingUpdate | null): Promise<void> {
  if (!rolling) return void (await db('rolling_updates').where({ chute_id: chuteId }).delete());
  const row = {
    chute_id: chuteId,
    old_version: rolling.oldVersion,
    new_version: rolling.newVersion,
    permitted: JSON.stringify(rolling.permitted),
    started_at: new Date(rolling.startedAtMs),
  };
  await db('rolling_updates').insert(row).onConflict('chute_id').merge();
}

/** Takes what is spent; never gives back: two writers may arrive in either order. */
export async function lowerPermitted(db: Knex, chuteId: string, permitted: Record<string, number>): Promise<void> {
  const row: { permitted: Record<string, number> } | undefined = await db('rolling_updates')
    .where({ chute_id: chuteId })
    .forUpdate()
    .first('permitted');
  if (!row) return;
  const lowered = Object.fromEntries(
    Object.entries(row.permitted).map(([hotkey, left]) => [hotkey, Math.min(left, permitted[hotkey] ?? left)]),
  );
  await db('rolling_updates')
    .where({ chute_id: chuteId })
    .update({ permitted: JSON.stringify(lowered) });
}

interface LaunchRow {
  instance_id: string;
  miner_hotkey: string;
  chute_version: string;
  created_at: Date;
  verified: boolean | null;
  active: boolean | null;
}

/** Launches that are not known to have ended: an instance row, or an unexpired permission nobody has failed or removed. */
export async function readLiveLaunches(db: Knex, chuteId: string): Promise<Record<string, Launch>> {
  const rows: LaunchRow[] = await db('launch_configs as l')
    .leftJoin('instances as i', 'i.instance_id', 'l.instance_id')
    .leftJoin('instance_audit as a', 'a.instance_id', 'l.instance_id')
    .where('l.chute_id', chuteId)
    .whereRaw('(i.instance_id is not null or (l.failed_at is null and a.deleted_at is null and l.expires_at > now()))')
    .select('l.instance_id', 'l.miner_hotkey', 'l.chute_version', 'l.created_at', 'i.verified', 'i.active');
  return Object.fromEntries(
    rows.map((row, index) => [
      row.instance_id,
      {
        minerHotkey: row.miner_hotkey,
        version: row.chute_version,
        permittedAtMs: row.created_at.getTime(),
        verified: row.verified ?? false,
        active: row.active ?? false,
        removal: null,
        lot: index / rows.length,
      },
    ]),
  );
}

/** Of these, the ones with evidence of their end: removed, failed, or expired with nothing running. */
export async function endedLaunches(db: Knex, instanceIds: readonly string[]): Promise<string[]> {
  const rows: { instance_id: string }[] = await db('launch_configs as l')
    .leftJoin('instances as i', 'i.instance_id', 'l.instance_id')
    .leftJoin('instance_audit as a', 'a.instance_id', 'l.instance_id')
    .whereIn('l.instance_id', [...instanceIds])
    .whereNull('i.instance_id')
    .whereRaw('(l.failed_at is not null or a.deleted_at is not null or l.expires_at <= now())')
    .select('l.instance_id');
  return rows.map((row) => row.instance_id);
}

interface RollingRow {
  old_version: string;
  new_version: string;
  permitted: Record<string, number>;
  started_at: Date;
}

/** The update as a workflow without memory can go on with it: everybody left is told again. */
export async function readRollingUpdate(
  db: Knex,
  chuteId: string,
  launches: Record<string, Launch>,
): Promise<RollingUpdate | null> {
  const row: RollingRow | undefined = await db('rolling_updates').where({ chute_id: chuteId }).first();
  if (!row) return null;
  const waiting = Object.entries(launches)
    .filter(([, launch]) => launch.active && launch.version !== row.new_version)
    .map(([id]) => id);
  return {
    oldVersion: row.old_version,
    newVersion: row.new_version,
    startedAtMs: row.started_at.getTime(),
    permitted: row.permitted,
    gapMs: noticeGapMs(Math.max(1, waiting.length)),
    nextNoticeAtMs: row.started_at.getTime(),
    waiting,
  };
}
