import type { ServerResponse } from 'node:http';
import type { Knex } from 'knex';
import type { Logger } from '../../activities/clients/log.ts';
import { CALL_ERRORS, renderCallError, type CallError } from '../../workflows/domain/openai/errors.ts';
import type { RoutedChute, RoutedCord, RoutedUser } from '../../workflows/domain/routing/routed.ts';
import type { Accounts } from './accounts.ts';
import type { InstanceLoad } from './instance-load.ts';
import type { Meter } from './meter.ts';
import type { GatewayMetrics } from './metrics.ts';
import type { RoutingTable } from './routing-table.ts';
import type { InstanceTransport } from './transport.ts';

export interface GatewaySettings {
  pepperHex: string;
  defaultQuota: number;
  bodyLimitBytes: number;
  bodyTimeoutMs: number;
  /** one attempt, first to last byte */
  attemptTimeoutMs: number;
}

/** What serving a call needs; all of it answers from memory. */
export interface CallDeps {
  settings: GatewaySettings;
  table: RoutingTable;
  accounts: Accounts;
  load: InstanceLoad;
  transport: InstanceTransport;
  meter: Meter;
  metrics: GatewayMetrics;
  /** only to look again before a refusal */
  db: Knex;
  log: Logger;
}

/** A call that may be made: checked, counted, and ready to be sent to any instance of its chute. */
export interface AdmittedCall {
  /** the id the caller sees; every attempt has one of its own under it */
  invocationId: string;
  user: RoutedUser;
  chute: RoutedChute;
  cord: RoutedCord;
  isOpenAi: boolean;
  method: string;
  path: string;
  headers: Record<string, string | string[]>;
  body: Buffer | null;
  wantsStream: boolean;
  promptCharacters: number;
  steps: number | null;
  isFree: boolean;
  quota: { counter: string; day: string; counts: number } | null;
  /** gives the reserved quota back; what was served is counted by its record */
  giveBack: () => void;
}

/** Stops a call with an answer. Not an error of the program: shown to the caller as it is. */
export class CallRefused extends Error {
  override readonly name = 'CallRefused';
  readonly error: CallError;
  constructor(error: CallError) {
    super(error.message);
    this.error = error;
  }
}

export function sendCallError(res: ServerResponse, error: CallError, isOpenAi: boolean): void {
  if (res.headersSent || res.destroyed) return void res.destroy();
  const body = JSON.stringify(renderCallError(error, isOpenAi));
  if (error.retryAfterS !== undefined) res.setHeader('retry-after', String(Math.max(1, Math.ceil(error.retryAfterS))));
  res
    .writeHead(CALL_ERRORS[error.code].status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    })
    .end(body);
}
