import type { Knex } from 'knex';
import { scopeOf, type Scope, type StoredScope } from '../../../workflows/domain/auth/api-keys.ts';
import { BASIS_MICRO_USD_PER_HOUR } from '../../../workflows/domain/gpus/gpu-table.ts';
import { computeMultiplier } from '../../../workflows/domain/gpus/node-selector.ts';
import { CANOPY_TRANSPORT } from '../../../workflows/domain/protocol/canopy-transport.ts';
import type { RoutedChute, RoutedCord, RoutedInstance, RoutedUser } from '../../../workflows/domain/routing/routed.ts';
import { readCords, readSelector } from './stored-shapes.ts';

export interface StoredKey {
  keyId: string;
  userId: string;
  admin: boolean;
  scopes: Scope[];
  secretHmac: Buffer;
}
/** `secretSealed` opens with context `instance:<instance_id>`. */
export type StoredInstance = RoutedInstance & { secretSealed: Buffer };

export async function loadChutes(db: Knex): Promise<RoutedChute[]> {
  const rows = await db('chutes as c')
    .join('users as u', 'u.user_id', 'c.user_id')
    .join('images as i', 'i.image_id', 'c.image_id')
    .select('c.*', 'u.username', 'u.permissions_bitmask', 'i.user_id as image_user_id');
  return rows.map((row): RoutedChute => {
    const selector = readSelector(row.node_selector);
    const multiplier = selector ? computeMultiplier(selector) : null;
    return {
      chuteId: row.chute_id,
      ownerId: row.user_id,
      ownerName: row.username,
      ownerPermissions: row.permissions_bitmask,
      name: row.name,
      slug: row.slug,
      isPublic: row.public,
      template: row.standard_template,
      cords: readCords(row.cords) satisfies RoutedCord[],
      concurrency: row.concurrency,
      discount: Number(row.discount),
      disabled: row.disabled,
      imageId: row.image_id,
      imageOwnerId: row.image_user_id,
      hourlyMicroUsd: multiplier === null ? null : Math.round(multiplier * BASIS_MICRO_USD_PER_HOUR),
      invocationCount: Number(row.invocation_count),
      createdAtMs: row.created_at.getTime(),
    };
  });
}

/** Those that may get a request now. */
export async function loadInstances(db: Knex): Promise<StoredInstance[]> {
  const rows = await db('instances')
    .where({ active: true, verified: true, transport: CANOPY_TRANSPORT })
    .whereNull('disabled_at')
    .whereNull('draining_at')
    .whereNotNull('session_secret_sealed')
    .whereNotNull('tls_cert_sha256')
    .select('*');
  return rows.map((row): StoredInstance => ({
    instanceId: row.instance_id,
    chuteId: row.chute_id,
    host: row.host,
    port: row.port,
    transport: row.transport,
    certSha256: row.tls_cert_sha256,
    minerUid: row.miner_uid,
    minerHotkey: row.miner_hotkey,
    computeMultiplier: row.compute_multiplier,
    secretSealed: row.session_secret_sealed,
  }));
}

export async function loadUsers(db: Knex): Promise<RoutedUser[]> {
  const rows = await db('users').select('user_id', 'username', 'permissions_bitmask');
  return rows.map((row): RoutedUser => ({
    userId: row.user_id,
    username: row.username,
    permissions: row.permissions_bitmask,
  }));
}

export async function loadKeys(db: Knex): Promise<StoredKey[]> {
  const rows = await db('api_keys').select('api_key_id', 'user_id', 'admin', 'scopes', 'secret_hmac');
  return rows.map((row): StoredKey => ({
    keyId: row.api_key_id,
    userId: row.user_id,
    admin: row.admin,
    secretHmac: row.secret_hmac,
    scopes: (row.scopes as StoredScope[]).map(scopeOf),
  }));
}

/** By user, then by chute id or `*`. */
export async function loadQuotas(db: Knex): Promise<Map<string, Map<string, number>>> {
  const quotas = new Map<string, Map<string, number>>();
  for (const row of await db('quotas').select('user_id', 'chute_id', 'quota')) {
    const ofUser = quotas.get(row.user_id) ?? new Map<string, number>();
    quotas.set(row.user_id, ofUser.set(row.chute_id, row.quota));
  }
  return quotas;
}

/** `chute_id/user_id` of every share. */
export async function loadShares(db: Knex): Promise<Set<string>> {
  const rows = await db('chute_shares').select('chute_id', 'user_id');
  return new Set(rows.map((row) => `${row.chute_id}/${row.user_id}`));
}

/** One UTC day's counters, by `user_id/counter`. */
export async function loadQuotaUsage(db: Knex, day: string): Promise<Map<string, number>> {
  const rows = await db('quota_usage').where({ day }).select('user_id', 'chute_id', 'used');
  return new Map(rows.map((row) => [`${row.user_id}/${row.chute_id}`, Number(row.used)]));
}

/** Sums of the ledger; a user without entries has 0. Only the asked: the ledger is long and few callers are active. */
export async function loadBalances(db: Knex, userIds: readonly string[]): Promise<Map<string, number>> {
  const balances = new Map(userIds.map((userId) => [userId, 0]));
  if (userIds.length === 0) return balances;
  const rows = await db('ledger')
    .whereIn('user_id', [...userIds])
    .groupBy('user_id')
    .select('user_id', db.raw('sum(amount_micro_usd) as balance'));
  for (const row of rows as { user_id: string; balance: string }[]) balances.set(row.user_id, Number(row.balance));
  return balances;
}
