/** Why a call was not answered, as callers branch on it (design.md §4). */
export const CALL_ERRORS = {
  invalid_api_key: { status: 401, type: 'authentication_error' },
  insufficient_scope: { status: 401, type: 'authentication_error' },
  quota_exhausted: { status: 402, type: 'insufficient_quota' },
  model_not_found: { status: 404, type: 'invalid_request_error' },
  not_found: { status: 404, type: 'invalid_request_error' },
  method_not_allowed: { status: 405, type: 'invalid_request_error' },
  request_timeout: { status: 408, type: 'invalid_request_error' },
  request_too_large: { status: 413, type: 'invalid_request_error' },
  invalid_json: { status: 400, type: 'invalid_request_error' },
  invalid_request: { status: 400, type: 'invalid_request_error' },
  rate_limited: { status: 429, type: 'rate_limit_error' },
  capacity: { status: 429, type: 'rate_limit_error' },
  maintenance: { status: 429, type: 'rate_limit_error' },
  upstream_failed: { status: 500, type: 'server_error' },
  internal: { status: 500, type: 'server_error' },
  cold_start: { status: 503, type: 'server_error' },
  service_unavailable: { status: 503, type: 'server_error' },
} as const satisfies Record<string, { status: number; type: string }>;

export type CallErrorCode = keyof typeof CALL_ERRORS;

export interface CallError {
  code: CallErrorCode;
  message: string;
  param?: string;
  retryAfterS?: number;
  quotaResetMs?: number;
}

/** OpenAI's shape on `/v1`, `{"detail": …}` elsewhere (spec/validator-api.md §0.3; the 402's object: §3.4). */
export function renderCallError(error: CallError, isOpenAi: boolean): Record<string, unknown> {
  const reset =
    error.quotaResetMs === undefined ? {} : { quota_reset_timestamp: new Date(error.quotaResetMs).toISOString() };
  if (isOpenAi) {
    return {
      error: {
        message: error.message,
        type: CALL_ERRORS[error.code].type,
        param: error.param ?? null,
        code: error.code,
        ...reset,
      },
    };
  }
  return {
    detail: error.code === 'quota_exhausted' ? { message: error.message, ...reset } : error.message,
    code: error.code,
  };
}
