/** One attempt of one call, as the spool holds it and `invocations` stores it. Times are epoch milliseconds. */
export interface InvocationRecord {
  invocationId: string;
  parentInvocationId: string;
  userId: string;
  chuteId: string;
  chuteUserId: string;
  functionName: string;
  imageId: string;
  imageUserId: string;
  instanceId: string;
  minerUid: number;
  minerHotkey: string;
  startedAtMs: number;
  completedAtMs: number;
  errorMessage: string | null;
  computeMultiplier: number;
  metrics: Metrics;
  isFree: boolean;
  amountMicroUsd: number;
  /** who is paid the amount: the owner of a private chute someone else called */
  creditUserId: string | null;
  /** what the call took from a day's free quota; null when it took nothing */
  quota: { counter: string; day: string; counts: number } | null;
}

export type Metrics = Record<string, number | boolean | null>;

/** Past this the auditors' CSV reader fails for the whole file (spec/audit-and-chain.md A.7.1). */
const LONGEST_ERROR = 2000;
export const clipError = (message: string): string => message.slice(0, LONGEST_ERROR);
