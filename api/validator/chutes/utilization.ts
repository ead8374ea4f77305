import type { Knex } from 'knex';

const WINDOWS = { '5m': 300, '15m': 900, '1h': 3600 } as const;
const FRESH_MS = 15_000;

interface LoadRow {
  chute_id: string;
  name: string;
  public: boolean;
  concurrency: number;
  target_count: number;
  max_instances: number | null;
  updating: boolean;
  total: number;
  active: number;
  requests_5m: number;
  requests_15m: number;
  requests_1h: number;
  limited_5m: number;
  limited_15m: number;
  limited_1h: number;
  completed_5m: number;
  completed_15m: number;
  completed_1h: number;
  busy_5m: number;
  busy_15m: number;
  busy_1h: number;
}

/** Per window: requests, what was refused for capacity, what ended well, and seconds of work. */
const aggregates = Object.entries(WINDOWS)
  .map(([name, seconds]) => {
    const recent = `started_at > now() - interval '${seconds} seconds'`;
    return `count(*) filter (where ${recent}) as requests_${name},
      count(*) filter (where ${recent} and error_message = 'RATE_LIMIT') as limited_${name},
      count(*) filter (where ${recent} and error_message is null and completed_at is not null) as completed_${name},
      coalesce(sum(extract(epoch from completed_at - started_at)) filter (where ${recent} and instance_id is not null), 0)::float as busy_${name}`;
  })
  .join(',\n');

/**
 * Utilization items (spec/validator-api.md §2.4.6) from what is: instances and the last hour's invocations. Work in a window ÷ what the
 * active instances could have done in it; answered from memory for 15 s, because every miner asks all the time.
 */
export function createUtilization(db: Knex): () => Promise<unknown[]> {
  let answer: { atMs: number; items: Promise<unknown[]> } | null = null;
  return () => {
    if (!answer || Date.now() - answer.atMs > FRESH_MS) {
      const items = readUtilization(db);
      answer = { atMs: Date.now(), items };
      items.catch(() => (answer = null));
    }
    return answer.items;
  };
}

async function readUtilization(db: Knex): Promise<unknown[]> {
  const { rows } = await db.raw<{ rows: LoadRow[] }>(`
    with load as (
      select chute_id, ${aggregates} from invocations where started_at > now() - interval '1 hour' group by chute_id
    ), running as (
      select chute_id, count(*) as total, count(*) filter (where active and verified) as active from instances group by chute_id
    )
    select c.chute_id, c.name, c.public, c.concurrency, c.target_count, c.max_instances, r.chute_id is not null as updating,
           coalesce(n.total, 0) as total, coalesce(n.active, 0) as active, l.*, c.chute_id as chute_id
      from chutes c left join load l using (chute_id) left join running n using (chute_id) left join rolling_updates r using (chute_id)
     where not c.disabled
     order by coalesce(l.requests_1h, 0) desc, c.chute_id`);
  const timestamp = new Date().toISOString();
  return rows.map((row) => render(row, timestamp));
}

function render(row: LoadRow, timestamp: string) {
  const capacity = row.active * row.concurrency;
  const utilization = (name: keyof typeof WINDOWS): number =>
    capacity === 0 ? 0 : Math.min(1, (row[`busy_${name}`] ?? 0) / (capacity * WINDOWS[name]));
  const counts = Object.fromEntries(
    (Object.keys(WINDOWS) as (keyof typeof WINDOWS)[]).flatMap((name) => {
      const total = row[`requests_${name}`] ?? 0;
      const limited = row[`limited_${name}`] ?? 0;
      return [
        [`utilization_${name}`, utilization(name)],
        [`rate_limit_ratio_${name}`, total === 0 ? 0 : limited / total],
        [`total_requests_${name}`, total],
        [`completed_requests_${name}`, row[`completed_${name}`] ?? 0],
        [`rate_limited_requests_${name}`, limited],
      ];
    }),
  );
  return {
    chute_id: row.chute_id,
    timestamp,
    name: row.public ? row.name : '[private chute]',
    utilization_current: utilization('5m'),
    ...counts,
    instance_count: row.total,
    action_taken: row.updating
      ? 'skipped_rolling_update'
      : row.total < row.target_count
        ? 'scale_up_candidate'
        : 'no_action',
    target_count: row.target_count,
    update_in_progress: row.updating,
    total_instance_count: row.total,
    active_instance_count: row.active,
    scalable: row.total < row.target_count,
    scale_allowance: Math.max(0, row.target_count - row.total),
    avg_busy_ratio: utilization('1h'),
    total_invocations: row.requests_1h ?? 0,
    total_rate_limit_errors: row.limited_1h ?? 0,
  };
}

interface RollingRow {
  chute_id: string;
  old_version: string;
  new_version: string;
  started_at: Date;
  permitted: Record<string, number>;
}

export async function readRollingUpdates(db: Knex): Promise<unknown[]> {
  const rows: RollingRow[] = await db('rolling_updates')
    .orderBy('started_at')
    .select('chute_id', 'old_version', 'new_version', 'started_at', 'permitted');
  return rows.map((row) => ({ ...row, started_at: row.started_at.toISOString() }));
}

/** GPUs of an instance, the latest fact per chute over all time, deleted chutes included: running chutes by selector, others by audit. */
export async function readGpuCountHistory(db: Knex): Promise<unknown[]> {
  const { rows } = await db.raw<{ rows: { chute_id: string; gpu_count: number }[] }>(`
    select chute_id, (node_selector->>'gpu_count')::int as gpu_count from chutes
    union all
    (select distinct on (a.chute_id) a.chute_id, a.gpu_count from instance_audit a
      where not exists (select 1 from chutes c where c.chute_id = a.chute_id) and a.gpu_count > 0
      order by a.chute_id, a.permitted_at desc)`);
  return rows;
}
