import { hasRole } from './users.ts';

/** Free invocations per UTC day (spec/validator-api.md §5.5): a row for one chute, or for `*`. */
export interface QuotaRow {
  chuteId: string;
  quota: number;
}

export interface EffectiveQuota {
  quota: number;
  /** what is counted against it: the chute's own counter, or the one all others share */
  counter: string;
}

export const ANY_CHUTE = '*';
/** The counter of every chute without a quota of its own (§5.5). */
export const DEFAULT_COUNTER = '__default__';

/** Row of the chute, then row `*`, then the configured default. */
export function effectiveQuota(rows: readonly QuotaRow[], chuteId: string, defaultQuota: number): EffectiveQuota {
  const own = rows.find((row) => row.chuteId === chuteId && chuteId !== ANY_CHUTE);
  if (own) return { quota: own.quota, counter: chuteId };
  const any = rows.find((row) => row.chuteId === ANY_CHUTE);
  return { quota: any?.quota ?? defaultQuota, counter: DEFAULT_COUNTER };
}

/** Free and invoiced accounts have no quota. */
export const isQuotaFree = (permissionsBitmask: number): boolean =>
  hasRole(permissionsBitmask, 'free_account') || hasRole(permissionsBitmask, 'invoice_billing');
