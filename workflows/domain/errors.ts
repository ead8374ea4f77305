/** Every business "no" of the system. Statuses are wire facts: change one only with the wire spec. */
export const REFUSALS = {
  'request.invalid': { status: 400, retryable: false },
  'auth.unauthorized': { status: 401, retryable: false },
  'auth.forbidden': { status: 403, retryable: false },
  'auth.replayed': { status: 401, retryable: false },
  'resource.not_found': { status: 404, retryable: false },
  'resource.conflict': { status: 409, retryable: false },
  'resource.gone': { status: 410, retryable: false },
  'request.too_large': { status: 413, retryable: false },
  'request.timeout': { status: 408, retryable: true },
  'balance.insufficient': { status: 402, retryable: false },
  'quota.exhausted': { status: 402, retryable: false },
  'rate.limited': { status: 429, retryable: true },
  'capacity.full': { status: 429, retryable: true },
  'launch.not_scalable': { status: 423, retryable: true },
  'proof.not_awaited': { status: 400, retryable: false },
  'proof.refused': { status: 403, retryable: false },
  'gpu.busy': { status: 503, retryable: true },
  'service.unavailable': { status: 503, retryable: true },
} as const satisfies Record<string, { status: number; retryable: boolean }>;

export type RefusalCode = keyof typeof REFUSALS;

export const isRefusalCode = (code: unknown): code is RefusalCode => typeof code === 'string' && code in REFUSALS;

/** The message is safe to show the caller; what is not goes in `cause`. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly code: RefusalCode;
  constructor(code: RefusalCode, detail: string, options?: ErrorOptions) {
    super(detail, options);
    this.code = code;
  }
}
