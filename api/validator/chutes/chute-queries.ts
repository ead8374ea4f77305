import type { Knex } from 'knex';
import type { Cord, NodeSelectorDocument } from '../../../workflows/domain/chutes/chute-definition.ts';
import { isUuid } from '../../../workflows/domain/ids.ts';
import type { ListQuery } from './wire.ts';

/** A chute with its image and owner, as the routes read it. */
export interface ChuteRow {
  chute_id: string;
  user_id: string;
  image_id: string;
  name: string;
  slug: string;
  version: string;
  public: boolean;
  code: string;
  filename: string;
  ref_str: string;
  standard_template: string | null;
  tagline: string;
  readme: string;
  tool_description: string | null;
  logo_id: string | null;
  node_selector: NodeSelectorDocument;
  cords: Cord[];
  jobs: unknown[];
  concurrency: number;
  revision: string | null;
  max_instances: number | null;
  scaling_threshold: number | null;
  shutdown_after_seconds: number | null;
  allow_external_egress: boolean;
  minimum_trust_level: string;
  chutes_version: string;
  discount: string;
  target_count: number;
  disabled: boolean;
  invocation_count: number;
  created_at: Date;
  updated_at: Date;
  image: {
    name: string;
    tag: string;
    readme: string;
    logo_id: string | null;
    public: boolean;
    status: string;
    patch_version: string;
    user_id: string;
    created_at: string;
    build_started_at: string | null;
    build_completed_at: string | null;
    artifact: unknown;
    owner: OwnerRow;
  };
  owner: OwnerRow;
  instances: {
    instance_id: string;
    region: string;
    active: boolean;
    verified: boolean;
    last_verified_at: string | null;
    gpu_model_name: string;
    gpu_count: number;
  }[];
}
export interface OwnerRow {
  username: string;
  user_id: string;
  logo_id: string | null;
  created_at: string;
}

const OWNER = (alias: string) =>
  `jsonb_build_object('username', ${alias}.username, 'user_id', ${alias}.user_id, 'logo_id', ${alias}.logo_id, 'created_at', ${alias}.created_at)`;

/** Every chute with its image, owner and instances; callers narrow it (`c` is the chute, `u` its owner, `i` its image). */
export const selectChutes = (db: Knex) =>
  db('chutes as c')
    .join('users as u', 'u.user_id', 'c.user_id')
    .join('images as i', 'i.image_id', 'c.image_id')
    .join('users as iu', 'iu.user_id', 'i.user_id')
    .select<ChuteRow[]>(
      'c.*',
      db.raw(`${OWNER('u')} as owner`),
      db.raw(`jsonb_build_object('name', i.name, 'tag', i.tag, 'readme', i.readme, 'logo_id', i.logo_id, 'public', i.public, 'status', i.status,
        'patch_version', i.patch_version, 'user_id', i.user_id, 'created_at', i.created_at, 'build_started_at', i.build_started_at,
        'build_completed_at', i.build_completed_at, 'artifact', i.artifact, 'owner', ${OWNER('iu')}) as image`),
      db.raw(`coalesce((select jsonb_agg(jsonb_build_object('instance_id', n.instance_id, 'region', n.region, 'active', n.active, 'verified', n.verified,
        'last_verified_at', n.last_verified_at, 'gpu_model_name', n.gpu_model_name, 'gpu_count', n.gpu_count) order by n.created_at, n.instance_id)
        from instances n where n.chute_id = c.chute_id), '[]') as instances`),
    );

const visibleTo = (userId: string | null) => (where: Knex.QueryBuilder) => {
  void where.where('c.public', true);
  if (userId === null) return;
  void where.orWhere('c.user_id', userId);
  void where.orWhereRaw('exists (select 1 from chute_shares s where s.chute_id = c.chute_id and s.user_id = ?)', [
    userId,
  ]);
};

/**
 * The chute an id or `[user/]name` means to this caller (spec/validator-api.md §2.4.8): among public, own and shared ones; the caller's
 * first (the official ones when anonymous), then the exact spelling, then the oldest. Names are compared, never used as patterns.
 */
export async function findChute(db: Knex, idOrName: string, userId: string | null): Promise<ChuteRow | null> {
  const query = selectChutes(db).where(visibleTo(userId));
  if (isUuid(idOrName)) return (await query.where('c.chute_id', idOrName).first()) ?? null;
  const [prefix, ...rest] = idOrName.split('/');
  void query.where((where) => {
    void where.whereRaw('lower(c.name) = lower(?)', [idOrName]);
    if (rest.length > 0)
      void where.orWhereRaw('(lower(u.username) = lower(?) and lower(c.name) = lower(?))', [
        prefix ?? '',
        rest.join('/'),
      ]);
  });
  void query.orderByRaw(
    userId === null ? `(u.username = 'chutes') desc` : '(c.user_id = ?) desc',
    userId === null ? [] : [userId],
  );
  return (await query.orderByRaw('(c.name = ?) desc, c.created_at, c.chute_id', [idOrName]).first()) ?? null;
}

/** `%`, `_` and `\` mean themselves. */
export const escapeLike = (text: string): string => text.replace(/[\\%_]/g, (found) => `\\${found}`);

/** One page, most invoked first (spec/validator-api.md §2.4.4). */
export async function listChutes(
  db: Knex,
  query: ListQuery,
  userId: string | null,
): Promise<{ total: number; rows: ChuteRow[] }> {
  const narrowed = <Builder extends Knex.QueryBuilder>(builder: Builder): Builder => {
    if (userId === null) void builder.where('c.public', true);
    else if (query.include_public)
      void builder.where((where) => void where.where('c.public', true).orWhere('c.user_id', userId));
    else void builder.where('c.user_id', userId);
    if (query.template === 'other') void builder.whereNull('c.standard_template');
    else if (query.template !== undefined) void builder.where('c.standard_template', query.template);
    if (query.name) void builder.whereRaw('c.name ilike ?', [`%${escapeLike(query.name)}%`]);
    if (query.exclude) void builder.whereRaw('c.name not ilike ?', [`%${escapeLike(query.exclude)}%`]);
    if (query.slug) void builder.whereRaw('lower(c.slug) = lower(?)', [query.slug]);
    if (query.image) void builder.whereRaw(`i.name || ':' || i.tag ilike ?`, [`%${escapeLike(query.image)}%`]);
    return builder;
  };
  const [count] = await narrowed(db('chutes as c').join('images as i', 'i.image_id', 'c.image_id')).count<
    { total: number }[]
  >('* as total');
  const rows = await narrowed(selectChutes(db))
    .orderBy([{ column: 'c.invocation_count', order: 'desc' }, { column: 'c.created_at' }, { column: 'c.chute_id' }])
    .limit(query.limit)
    .offset(query.page * query.limit);
  return { total: count?.total ?? 0, rows };
}

export interface ImageChoice {
  image_id: string;
  status: string;
  public: boolean;
  patch_version: string;
  chutes_version: string;
}

/** The image an id or `[user/]name:tag` means to this caller: public or own; own first. */
export async function findImage(db: Knex, reference: string, userId: string): Promise<ImageChoice | null> {
  const query = db('images as i')
    .join('users as u', 'u.user_id', 'i.user_id')
    .where((where) => void where.where('i.public', true).orWhere('i.user_id', userId))
    .select<ImageChoice[]>('i.image_id', 'i.status', 'i.public', 'i.patch_version', 'i.chutes_version');
  if (isUuid(reference)) return (await query.where('i.image_id', reference).first()) ?? null;
  const [prefix, ...rest] = reference.split('/');
  const spelled = `lower(i.name || ':' || i.tag) = lower(?)`;
  void query.where((where) => {
    void where.whereRaw(`(i.user_id = ? and ${spelled})`, [userId, reference]);
    if (rest.length > 0)
      void where.orWhereRaw(`(lower(u.username) = lower(?) and ${spelled})`, [prefix ?? '', rest.join('/')]);
  });
  return (await query.orderByRaw('(i.user_id = ?) desc', [userId]).orderBy('i.created_at').first()) ?? null;
}

/** What the deploy checks need to know of the caller and of what is deployed under this name. */
export async function readDeployFacts(db: Knex, userId: string, name: string) {
  const [operations, balance, deployed] = await Promise.all([
    db('chute_operations')
      .where({ user_id: userId })
      .whereRaw(`created_at > now() - interval '24 hours'`)
      .count<{ count: number }[]>('* as count')
      .first(),
    db('ledger').where({ user_id: userId }).sum<{ sum: string | null }[]>('amount_micro_usd as sum').first(),
    db('chutes')
      .where({ user_id: userId })
      .whereRaw('lower(name) = lower(?)', [name])
      .first<{ chute_id: string; name: string; slug: string; version: string; public: boolean } | undefined>(
        'chute_id',
        'name',
        'slug',
        'version',
        'public',
      ),
  ]);
  return {
    operationsLastDay: operations?.count ?? 0,
    balanceMicroUsd: Number(balance?.sum ?? 0),
    deployed: deployed ?? null,
  };
}

/** The newest bounty announced per chute in the last minute; reads only the newest events. */
export async function readBounties(db: Knex): Promise<ReadonlyMap<string, number>> {
  const { rows } = await db.raw<{ rows: { chute_id: string; bounty: number }[] }>(
    `select distinct on (payload->'data'->>'chute_id') payload->'data'->>'chute_id' as chute_id, (payload->'data'->>'bounty')::int as bounty
       from events where seq > (select coalesce(max(seq), 0) - 5000 from events) and channel = 'miner_broadcast'
        and payload->>'reason' = 'bounty_change' and created_at > now() - interval '1 minute'
      order by payload->'data'->>'chute_id', seq desc`,
  );
  return new Map(rows.map((row) => [row.chute_id, row.bounty]));
}
