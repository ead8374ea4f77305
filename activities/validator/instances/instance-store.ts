import { randomBytes } from 'node:crypto';
import type { Knex } from 'knex';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { REMOVAL_REASONS, type RemovalCode } from '../../../workflows/domain/instances/removal.ts';
import type { ProofSummary } from '../../../workflows/domain/proof/plugin.ts';
import type { SecretBox } from '../../clients/secret-box.ts';
import { publishToMiners, publishToPublic } from '../events/event-outbox.ts';

interface Row {
  instance_id: string;
  config_id: string;
  chute_id: string;
  version: string;
  miner_hotkey: string;
  miner_coldkey: string;
  miner_uid: number;
  host: string;
  port: number;
  gpu_count: number;
  compute_multiplier: number;
  trust_level: string;
  active: boolean;
  verified: boolean;
  disabled_at: Date | null;
  consecutive_failures: number;
  last_queried_at: Date | null;
  last_verified_at: Date | null;
  activated_at: Date | null;
  created_at: Date;
  session_secret_sealed: Buffer | null;
}

/** The box's context of a session secret: it opens for its own row only. */
export const sessionSecretContext = (instanceId: string): string => `instance:${instanceId}`;

const told = (row: Row) => ({ chute_id: row.chute_id, miner_hotkey: row.miner_hotkey, instance_id: row.instance_id });
const lock = (trx: Knex.Transaction, instanceId: string): Promise<Row | undefined> =>
  trx<Row>('instances').where({ instance_id: instanceId }).forUpdate().first();

async function lockExisting(trx: Knex.Transaction, instanceId: string): Promise<Row> {
  const row = await lock(trx, instanceId);
  if (!row) throw new Refusal('resource.not_found', 'Instance was deleted');
  return row;
}

export interface RecordVerified {
  instanceId: string;
  summary: ProofSummary;
}

/** Verified, with a session secret of 32 random bytes (hex) sealed into the row. Natural key: the instance; run again it changes nothing. */
export function recordVerifiedRow(
  db: Knex,
  box: SecretBox,
  { instanceId, summary }: RecordVerified,
): Promise<{ verifiedAtMs: number }> {
  return db.transaction(async (trx) => {
    const row = await lockExisting(trx, instanceId);
    if (row.verified && row.last_verified_at) return { verifiedAtMs: row.last_verified_at.getTime() };
    const verifiedAt = new Date();
    await trx('instances')
      .where({ instance_id: instanceId })
      .update({
        verified: true,
        last_verified_at: verifiedAt,
        updated_at: verifiedAt,
        trust_level: summary.trustLevel,
        proof_summary: JSON.stringify(summary),
        session_secret_sealed: box.seal(randomBytes(32).toString('hex'), sessionSecretContext(instanceId)),
      });
    await trx('launch_configs').where({ config_id: row.config_id }).update({ verified_at: verifiedAt });
    await trx('instance_audit')
      .where({ instance_id: instanceId })
      .update({ verified_at: verifiedAt, trust_level: summary.trustLevel });
    await publishToMiners(
      trx,
      'instance_verified',
      { instance_id: instanceId, miner_hotkey: row.miner_hotkey },
      { to: [row.miner_hotkey] },
    );
    await publishToPublic(
      trx,
      'instance_hot',
      told(row),
      `Instance ${instanceId} of chute ${row.chute_id} is verified`,
    );
    return { verifiedAtMs: verifiedAt.getTime() };
  });
}

export type ActivationOutcome =
  | { kind: 'active'; activatedAtMs: number }
  | { kind: 'at_target'; activeCount: number; targetCount: number };

/** Active, once. A private chute that has its target is a "no" (spec/validator-api.md §2.6.4); its row is locked so that two cannot both be last. */
export function recordActiveRow(db: Knex, { instanceId }: { instanceId: string }): Promise<ActivationOutcome> {
  return db.transaction(async (trx): Promise<ActivationOutcome> => {
    const { chute_id: chuteId } = (await trx<Row>('instances')
      .where({ instance_id: instanceId })
      .first('chute_id')) ?? { chute_id: null };
    const chute: { public: boolean; target_count: number } | undefined =
      chuteId === null
        ? undefined
        : await trx('chutes').where({ chute_id: chuteId }).forNoKeyUpdate().first('public', 'target_count');
    const row = await lockExisting(trx, instanceId);
    if (row.active && row.activated_at) return { kind: 'active', activatedAtMs: row.activated_at.getTime() };
    if (!row.verified || !chute) throw new Refusal('auth.forbidden', 'instance is not verified');
    if (!chute.public) {
      const others = await trx('instances')
        .where({ chute_id: row.chute_id, version: row.version, active: true })
        .count<{ count: number }>({ count: '*' })
        .first();
      const activeCount = others?.count ?? 0;
      if (activeCount >= chute.target_count) return { kind: 'at_target', activeCount, targetCount: chute.target_count };
    }
    const activatedAt = new Date();
    await trx('instances')
      .where({ instance_id: instanceId })
      .update({ active: true, activated_at: activatedAt, updated_at: activatedAt, consecutive_failures: 0 });
    await trx('instance_audit').where({ instance_id: instanceId }).update({ activated_at: activatedAt });
    await publishToMiners(
      trx,
      'instance_activated',
      { ...told(row), config_id: row.config_id },
      { to: [row.miner_hotkey] },
    );
    await publishToPublic(
      trx,
      'instance_activated',
      told(row),
      `Instance ${instanceId} of chute ${row.chute_id} is active`,
    );
    return { kind: 'active', activatedAtMs: activatedAt.getTime() };
  });
}

/** Takes an instance out of routing, or back in. A row already gone is left gone: its removal is another step's. */
export function setRoutableRow(
  db: Knex,
  { instanceId, isRoutable, detail }: { instanceId: string; isRoutable: boolean; detail: string },
): Promise<void> {
  return db.transaction(async (trx) => {
    const row = await lock(trx, instanceId);
    if (!row || (row.disabled_at === null) === isRoutable) return;
    await trx('instances')
      .where({ instance_id: instanceId })
      .update({
        disabled_at: isRoutable ? null : trx.fn.now(),
        updated_at: trx.fn.now(),
        ...(isRoutable ? { consecutive_failures: 0 } : {}),
      });
    if (!isRoutable)
      await publishToPublic(trx, 'instance_disabled', told(row), `Instance ${instanceId} is not routed to: ${detail}`);
  });
}

/**
 * Takes an instance that is about to go out of routing for good. `wasRoutable`: gateways may have sent requests that are
 * still under way; run again it says the same.
 */
export async function stopRoutingRow(
  db: Knex,
  { instanceId }: { instanceId: string },
): Promise<{ wasRoutable: boolean }> {
  const draining = await db('instances')
    .where({ instance_id: instanceId, active: true })
    .whereNull('disabled_at')
    .update({ draining_at: db.raw('coalesce(draining_at, now())'), updated_at: db.fn.now() });
  return { wasRoutable: draining === 1 };
}

export interface RemoveInstance {
  instanceId: string;
  configId: string;
  code: RemovalCode;
  evidence: Record<string, unknown>;
}

/**
 * Row and GPU bindings away, audit row closed with code and evidence, config failed unless it was verified, events: one
 * transaction. An instance that never claimed gets its audit row too. Natural key: `deleted_at`; run again nothing is sent.
 */
export function removeInstanceRow(db: Knex, { instanceId, configId, code, evidence }: RemoveInstance): Promise<void> {
  return db.transaction(async (trx) => {
    // The config is locked first: a claim that is still on its way then finds it failed, or is seen here.
    const config = await trx('launch_configs').where({ config_id: configId }).forUpdate().first();
    const audit: { deleted_at: Date | null } | undefined = await trx('instance_audit')
      .where({ instance_id: instanceId })
      .first('deleted_at');
    if (!config || audit?.deleted_at) return;
    const row = await lock(trx, instanceId);
    const ended = {
      deleted_at: trx.fn.now(),
      removal_code: code,
      deletion_reason: REMOVAL_REASONS[code],
      evidence: JSON.stringify({ ...evidence, ...(row ? lastSeen(row) : {}) }),
    };
    const { chute_id, miner_hotkey, miner_coldkey, miner_uid } = config;
    await trx('instance_audit')
      .insert({
        instance_id: instanceId,
        config_id: configId,
        chute_id,
        version: config.chute_version,
        miner_hotkey,
        miner_coldkey,
        miner_uid,
        gpu_count: 0,
        compute_multiplier: 0,
        trust_level: 'none',
        permitted_at: config.created_at,
        ...ended,
      })
      .onConflict('instance_id')
      .merge(Object.keys(ended));
    await trx('launch_configs')
      .where({ config_id: configId })
      .whereNull('verified_at')
      .whereNull('failed_at')
      .update({ failed_at: trx.fn.now(), failure_code: code });
    await trx('instance_nodes').where({ instance_id: instanceId }).delete();
    await trx('instances').where({ instance_id: instanceId }).delete();
    const gone = { chute_id, miner_hotkey, instance_id: instanceId };
    await publishToMiners(
      trx,
      'instance_deleted',
      { ...gone, config_id: configId },
      { to: [miner_hotkey], message: REMOVAL_REASONS[code] },
    );
    if (row)
      await publishToPublic(
        trx,
        'instance_deleted',
        gone,
        `Instance ${instanceId} of chute ${chute_id} is gone: ${REMOVAL_REASONS[code]}`,
      );
  });
}

const lastSeen = (row: Row) => ({
  host: row.host,
  port: row.port,
  consecutiveFailures: row.consecutive_failures,
  lastQueriedAt: row.last_queried_at?.toISOString() ?? null,
});
