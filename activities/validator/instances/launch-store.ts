import type { Knex } from 'knex';

/** A launch as the API needs it beside its workflow: reads only. */
export interface LaunchRow {
  config_id: string;
  instance_id: string;
  chute_id: string;
  miner_hotkey: string;
  ephemeral_key_sealed: Buffer;
  ephemeral_public_key: string;
  /** below 2^48 */
  seed: number | null;
  failed_at: Date | null;
}

export const readLaunch = async (db: Knex, configId: string): Promise<LaunchRow | null> =>
  (await db<LaunchRow>('launch_configs').where({ config_id: configId }).first()) ?? null;

export const readLaunchOfMiner = async (
  db: Knex,
  where: { instance_id: string; chute_id: string; miner_hotkey: string },
): Promise<LaunchRow | null> => (await db<LaunchRow>('launch_configs').where(where).first()) ?? null;

export interface GrantFacts {
  envKey: string;
  issuedAt: Date;
  allowsEgress: boolean;
}

/** What the launch token tells the runtime. */
export async function readGrant(db: Knex, configId: string): Promise<GrantFacts | null> {
  const row: { env_key: string; created_at: Date; allow_external_egress: boolean } | undefined = await db(
    'launch_configs',
  )
    .join('chutes', 'chutes.chute_id', 'launch_configs.chute_id')
    .where({ config_id: configId })
    .first('env_key', 'launch_configs.created_at', 'allow_external_egress');
  return row ? { envKey: row.env_key, issuedAt: row.created_at, allowsEgress: row.allow_external_egress } : null;
}

/** What a verified instance is handed. `code` is null once the chute has another version than the instance. */
export interface HandoverRow {
  transport_public_key: string | null;
  session_secret_sealed: Buffer | null;
  trust_level: string;
  code: string | null;
  concurrency: number;
  filename: string;
  ref_str: string;
}

export async function readHandover(db: Knex, instanceId: string): Promise<HandoverRow | null> {
  const row: HandoverRow | undefined = await db('instances')
    .leftJoin('chutes', (on) =>
      on.on('chutes.chute_id', 'instances.chute_id').andOn('chutes.version', 'instances.version'),
    )
    .where({ instance_id: instanceId })
    .first(
      'transport_public_key',
      'session_secret_sealed',
      'trust_level',
      'code',
      'concurrency',
      'filename',
      'ref_str',
    );
  return row ?? null;
}

export interface LogSource {
  host: string;
  port_mappings: unknown;
  miner_hotkey: string;
  user_id: string;
  public: boolean;
}

export async function readLogSource(db: Knex, instanceId: string): Promise<LogSource | null> {
  const row: LogSource | undefined = await db('instances')
    .join('chutes', 'chutes.chute_id', 'instances.chute_id')
    .where({ instance_id: instanceId })
    .first('host', 'port_mappings', 'miner_hotkey', 'user_id', 'public');
  return row ?? null;
}
