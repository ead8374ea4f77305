import { hasRole } from '../auth/users.ts';
import type { RoutedChute, RoutedUser } from '../routing/routed.ts';

/** Free invocations a UTC day, and the counter they are counted on (spec/validator-api.md §5.5). */
export interface Quota {
  perDay: number;
  /** the chute's id when a row of that chute applies, else the one every other chute shares */
  counter: string;
}

/** `quotas.chute_id` of the row for every chute without one of its own. */
export const ANY_CHUTE = '*';
const DEFAULT_COUNTER = '__default__';

/**
 * The row of the chute, then row `*`, then the configured default; `rows` by chute id. Private chutes have none (§3.4,
 * check 4).
 */
export function quotaOf(
  chute: Pick<RoutedChute, 'chuteId' | 'isPublic'>,
  rows: ReadonlyMap<string, number>,
  defaultPerDay: number,
): Quota {
  if (!chute.isPublic) return { perDay: 0, counter: DEFAULT_COUNTER };
  const ofChute = chute.chuteId === ANY_CHUTE ? undefined : rows.get(chute.chuteId);
  return ofChute === undefined
    ? { perDay: rows.get(ANY_CHUTE) ?? defaultPerDay, counter: DEFAULT_COUNTER }
    : { perDay: ofChute, counter: chute.chuteId };
}

/** Free and invoiced accounts have no quota. */
export const isQuotaFree = (permissions: number): boolean =>
  hasRole(permissions, 'free_account') || hasRole(permissions, 'invoice_billing');

export type Admission =
  /** `counts` is what the call takes from the day's quota when it succeeds */
  | { kind: 'admitted'; isFree: boolean; counts: number }
  | { kind: 'refused'; message: string; quotaResetMs: number | null };

export interface AdmissionInput {
  user: RoutedUser;
  chute: RoutedChute;
  quota: Quota;
  /** today's, calls under way included */
  used: number;
  balanceMicroUsd: number;
  ownerBalanceMicroUsd: number;
  nowMs: number;
}

/** May this call be made, and who pays? Spec/validator-api.md §3.4, checks 2–4. */
export function admit({
  user,
  chute,
  quota,
  used,
  balanceMicroUsd,
  ownerBalanceMicroUsd,
  nowMs,
}: AdmissionInput): Admission {
  if (!chute.isPublic && ownerBalanceMicroUsd <= 0 && !hasRole(chute.ownerPermissions, 'free_account')) {
    return { kind: 'refused', message: 'The owner of this private chute has no balance left.', quotaResetMs: null };
  }
  if (chute.discount === 1 || hasRole(user.permissions, 'free_account'))
    return { kind: 'admitted', isFree: true, counts: 0 };
  if (hasRole(user.permissions, 'invoice_billing')) return { kind: 'admitted', isFree: false, counts: 0 };
  if (used < quota.perDay) return { kind: 'admitted', isFree: true, counts: chute.name.endsWith('-turbo') ? 2 : 1 };
  if (balanceMicroUsd > 0) return { kind: 'admitted', isFree: false, counts: 0 };
  return {
    kind: 'refused',
    message:
      quota.perDay > 0
        ? `Quota exceeded: ${quota.perDay} free requests a day are used and the balance is empty.`
        : 'The balance is empty and no free requests are granted.',
    quotaResetMs: quota.perDay > 0 ? nextUtcMidnightMs(nowMs) : null,
  };
}

const DAY_MS = 86_400_000;
export const nextUtcMidnightMs = (nowMs: number): number => (Math.floor(nowMs / DAY_MS) + 1) * DAY_MS;
/** `YYYY-MM-DD` of the UTC day. */
export const utcDay = (nowMs: number): string => new Date(nowMs).toISOString().slice(0, 10);
