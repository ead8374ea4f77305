import type { Knex } from 'knex';
import { computeMultiplier } from '../../../workflows/domain/gpus/node-selector.ts';
import { nodeSelectorOf } from '../../../workflows/domain/chutes/chute-definition.ts';
import { readBounties, selectChutes, type ChuteRow } from '../chutes/chute-queries.ts';
import { renderSelector } from '../chutes/render-chute.ts';

const PAGE = 100;

/** `user/name:tag`, and `-<patch>` once the image was patched (spec/validator-api.md §2.7). */
export const imageReference = ({ image }: Pick<ChuteRow, 'image'>): string =>
  `${image.owner.username}/${image.name}:${image.tag}${image.patch_version === 'initial' ? '' : `-${image.patch_version}`}`;

/** A chute as miners read it: every column, private ones and code too; `canopy` says how to run it without the reference's image rules. */
export function renderMinerChute(row: ChuteRow, bounty: number | null) {
  const { image, owner: _owner, instances: _instances, discount, target_count: _target, ...columns } = row;
  const node_selector = renderSelector(row);
  return {
    ...columns,
    discount: Number(discount),
    image: imageReference(row),
    node_selector,
    supported_gpus: node_selector.supported_gpus,
    preemptible: row.public,
    tee: row.minimum_trust_level === 'attested',
    effective_compute_multiplier: node_selector.compute_multiplier ?? 0,
    compute_multiplier_factors: {},
    bounty,
    canopy: { artifact: image.artifact, minimum_trust_level: row.minimum_trust_level },
  };
}

/** Pages of a table in key order: a list of any size in little memory. */
async function* pages<Row>(
  read: (after: string | null) => Promise<Row[]>,
  keyOf: (row: Row) => string,
): AsyncGenerator<Row> {
  for (let after: string | null = null; ;) {
    const rows: Row[] = await read(after);
    yield* rows;
    const last = rows.at(-1);
    if (!last || rows.length < PAGE) return;
    after = keyOf(last);
  }
}

export async function* minerChutes(db: Knex): AsyncGenerator<unknown> {
  const bounties = await readBounties(db);
  const read = (after: string | null): Promise<ChuteRow[]> => {
    const query = selectChutes(db).where('c.disabled', false).orderBy('c.chute_id').limit(PAGE);
    return Promise.resolve(after === null ? query : query.where('c.chute_id', '>', after));
  };
  for await (const row of pages(read, (chute) => chute.chute_id))
    yield renderMinerChute(row, bounties.get(row.chute_id) ?? null);
}

export async function readMinerChute(db: Knex, chuteId: string, version: string): Promise<unknown> {
  const row = await selectChutes(db).where({ 'c.chute_id': chuteId, 'c.version': version }).first();
  return row ? renderMinerChute(row, (await readBounties(db)).get(chuteId) ?? null) : null;
}

export async function* minerImages(db: Knex): AsyncGenerator<unknown> {
  const read = (after: string | null): Promise<{ image_id: string }[]> => {
    const query = db('images as i')
      .join('users as u', 'u.user_id', 'i.user_id')
      .orderBy('i.image_id')
      .limit(PAGE)
      .select<{ image_id: string }[]>(
        'i.image_id',
        'i.user_id',
        'u.username',
        'i.name',
        'i.tag',
        'i.readme',
        'i.logo_id',
        'i.public',
        'i.status',
        'i.patch_version',
        'i.chutes_version',
        'i.created_at',
        'i.build_started_at',
        'i.build_completed_at',
        'i.artifact',
      );
    return Promise.resolve(after === null ? query : query.where('i.image_id', '>', after));
  };
  yield* pages(read, (image) => image.image_id);
}

/** Text that goes into JSON as the number it is: seeds pass 2^53. */
const rawNumber = (text: string): unknown => (JSON as unknown as { rawJSON: (text: string) => unknown }).rawJSON(text);

export async function* minerNodes(db: Knex, hotkey: string): AsyncGenerator<unknown> {
  const rows: { seed_text: string }[] = await db('nodes')
    .where({ miner_hotkey: hotkey })
    .orderBy('uuid')
    .select(
      'uuid',
      'miner_hotkey',
      'server_id',
      'server_name',
      'name',
      'memory',
      'major',
      'minor',
      'processors',
      'sxm',
      'clock_rate',
      'max_threads_per_processor',
      'concurrent_kernels',
      'ecc',
      'device_index',
      'gpu_identifier',
      'verification_host',
      'verification_port',
      'verified_at',
      'verification_error',
      'created_at',
      db.raw('seed::text as seed_text'),
      'status',
      'trust_level',
      'proof_summary',
    );
  for (const { seed_text, ...row } of rows) yield { ...row, seed: rawNumber(seed_text) };
}

/** The caller's instances; no key of any kind is among the columns. */
export async function* minerInstances(db: Knex, hotkey: string): AsyncGenerator<unknown> {
  yield* await db('instances')
    .where({ miner_hotkey: hotkey })
    .orderBy('instance_id')
    .select(
      'instance_id',
      'config_id',
      'chute_id',
      'version',
      'miner_hotkey',
      'miner_coldkey',
      'miner_uid',
      'host',
      'port',
      'port_mappings',
      'region',
      'gpu_count',
      'gpu_model_name',
      'hourly_rate_micro_usd',
      'compute_multiplier',
      'chutes_version',
      'active',
      'verified',
      'disabled_at',
      'draining_at',
      'consecutive_failures',
      'last_queried_at',
      'last_verified_at',
      'verification_error',
      'activated_at',
      'trust_level',
      'created_at',
      'updated_at',
    );
}

interface MetricsRow {
  chute_id: string;
  node_selector: ChuteRow['node_selector'];
  total_invocations: number;
  total_compute_time: number;
  error_count: number;
  rate_limit_count: number;
  instance_count: number;
  total_usage_micro_usd: number;
}

/** Per chute, the last hour (spec/validator-api.md §2.7). */
export async function* minerMetrics(db: Knex): AsyncGenerator<unknown> {
  const end = new Date();
  const start = new Date(end.getTime() - 3_600_000);
  const { rows } = await db.raw<{ rows: MetricsRow[] }>(
    `with load as (
       select chute_id, count(*) as total_invocations,
              coalesce(sum(extract(epoch from completed_at - started_at)) filter (where error_message is null), 0)::float as total_compute_time,
              count(*) filter (where error_message is not null and error_message <> 'RATE_LIMIT') as error_count,
              count(*) filter (where error_message = 'RATE_LIMIT') as rate_limit_count,
              coalesce(sum(amount_micro_usd), 0)::float as total_usage_micro_usd
         from invocations where started_at > ? and started_at <= ? group by chute_id)
     select c.chute_id, c.node_selector, coalesce(l.total_invocations, 0) as total_invocations, coalesce(l.total_compute_time, 0) as total_compute_time,
            coalesce(l.error_count, 0) as error_count, coalesce(l.rate_limit_count, 0) as rate_limit_count,
            coalesce(l.total_usage_micro_usd, 0) as total_usage_micro_usd,
            (select count(*) from instances n where n.chute_id = c.chute_id and n.active) as instance_count
       from chutes c left join load l using (chute_id) order by c.chute_id`,
    [start, end],
  );
  for (const { node_selector, total_usage_micro_usd, ...row } of rows) {
    const multiplier = computeMultiplier(nodeSelectorOf(node_selector)) ?? 0;
    yield {
      ...row,
      start_date: start.toISOString(),
      end_date: end.toISOString(),
      compute_multiplier: multiplier,
      per_second_price_usd: (multiplier * 4.5) / 3600,
      total_usage_usd: total_usage_micro_usd / 1_000_000,
    };
  }
}

export const readInventory = (db: Knex, hotkey: string): Promise<unknown[]> =>
  db('nodes as n')
    .leftJoin('instance_nodes as x', 'x.node_uuid', 'n.uuid')
    .leftJoin('instances as i', 'i.instance_id', 'x.instance_id')
    .leftJoin('chutes as c', 'c.chute_id', 'i.chute_id')
    .where('n.miner_hotkey', hotkey)
    .orderBy('n.uuid')
    .select({
      gpu_id: 'n.uuid',
      last_verified_at: 'n.verified_at',
      verification_error: 'n.verification_error',
      active: db.raw('coalesce(i.active, false)'),
      chute_id: 'c.chute_id',
      chute_name: 'c.name',
    });

export const readActiveInstances = (db: Knex): Promise<unknown[]> =>
  db('instances')
    .where({ active: true })
    .orderBy('instance_id')
    .select('instance_id', 'miner_hotkey', 'chute_id', 'activated_at', 'compute_multiplier');

/** The caller's GPUs by server (spec/validator-api.md §7.6). */
export async function readServers(db: Knex, hotkey: string): Promise<{ servers: unknown[] }> {
  const servers: unknown[] = await db('nodes')
    .where({ miner_hotkey: hotkey })
    .whereNotNull('server_id')
    .groupBy('server_id')
    .orderBy('server_id')
    .select(
      'server_id',
      db.raw(
        'max(server_name) as name, max(verification_host) as ip, false as is_tee, null::text as version, false as maintenance_pending',
      ),
      db.raw('min(created_at) as created_at, greatest(max(created_at), max(verified_at)) as updated_at'),
      db.raw(`jsonb_agg(jsonb_build_object('uuid', uuid, 'gpu_identifier', gpu_identifier, 'device_index', device_index, 'verified_at', verified_at,
        'verification_error', verification_error) order by device_index) as gpus`),
    );
  return { servers };
}

/** The metagraph's rows; columns this network does not know yet are null (spec/validator-api.md §2.7). */
export async function readMetagraph(db: Knex, netuid: number): Promise<unknown[]> {
  const rows: {
    hotkey: string;
    coldkey: string;
    uid: number;
    netuid: number;
    stake_rao: string;
    host: string | null;
    port: number | null;
    blacklist_reason: string | null;
    synced_at: Date;
  }[] = await db('metagraph_nodes')
    .where({ netuid })
    .orderBy('uid')
    .select('hotkey', 'coldkey', 'uid', 'netuid', 'stake_rao', 'host', 'port', 'blacklist_reason', 'synced_at');
  return rows.map((row) => ({
    hotkey: row.hotkey,
    checksum: null,
    coldkey: row.coldkey,
    node_id: row.uid,
    incentive: null,
    netuid: row.netuid,
    stake: Number(row.stake_rao) / 1e9,
    tao_stake: null,
    alpha_stake: null,
    trust: null,
    vtrust: null,
    last_updated: null,
    ip: row.host,
    ip_type: row.host === null ? null : row.host.includes(':') ? 6 : 4,
    port: row.port,
    protocol: null,
    real_host: row.host,
    real_port: row.port,
    synced_at: row.synced_at.toISOString(),
    blacklist_reason: row.blacklist_reason,
  }));
}
