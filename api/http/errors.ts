import type { ErrorRequestHandler } from 'express';
import { WorkflowUpdateFailedError, WorkflowNotFoundError } from '@temporalio/client';
import type { ZodError } from 'zod';
import type { Logger } from '../../activities/clients/log.ts';
import { isRefusalCode, Refusal, REFUSALS, type RefusalCode } from '../../workflows/domain/errors.ts';

/** One entry of a 422's `detail` (spec/validator-api.md §0.3). */
export interface FieldError {
  type: string;
  loc: (string | number)[];
  msg: string;
  input?: unknown;
}

/** The request's shape is wrong: 422 with every bad field. */
export class ValidationError extends Error {
  override readonly name = 'ValidationError';
  readonly fields: FieldError[];
  constructor(fields: FieldError[]) {
    super('request is not valid');
    this.fields = fields;
  }
  static from(error: ZodError, place: 'body' | 'query' | 'path' | 'header'): ValidationError {
    return new ValidationError(
      error.issues.map((issue) => ({
        type: issue.code === 'invalid_type' && issue.input === undefined ? 'missing' : (issue.code ?? 'custom'),
        loc: [place, ...issue.path.map((part) => (typeof part === 'number' ? part : String(part)))],
        msg: issue.message,
        ...(issue.input === undefined ? {} : { input: shown(issue.input) }),
      })),
    );
  }
}

const SHOWN_CHARS = 200;

/** What the caller sent, bounded: enough to see the mistake, never a whole upload echoed back. */
function shown(input: unknown): unknown {
  if (typeof input === 'string') return input.length > SHOWN_CHARS ? `${input.slice(0, SHOWN_CHARS)}…` : input;
  if (typeof input === 'number' || typeof input === 'boolean' || input === null) return input;
  return Array.isArray(input) ? 'a list' : 'an object';
}

/** The refusal at the bottom of an error: thrown here, or by an activity or workflow behind any number of causes. */
export function refusalOf(err: unknown): { code: RefusalCode; detail: string } | null {
  for (let cause: unknown = err; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof Refusal) return { code: cause.code, detail: cause.message };
    if ('type' in cause && isRefusalCode(cause.type)) return { code: cause.type, detail: cause.message };
  }
  return null;
}

const statusOf = (err: unknown): number | null =>
  err instanceof Error && 'status' in err && typeof err.status === 'number' && err.status >= 400 && err.status < 600
    ? err.status
    : null;

/** Renders every error as `{"detail": …}`; a bug is logged whole and shown as nothing but its request id. */
export function renderErrors(log: Logger): ErrorRequestHandler {
  return (err: unknown, req, res, next) => {
    if (res.headersSent) return next(err);
    if (err instanceof ValidationError) return void res.status(422).json({ detail: err.fields });
    const refusal = refusalOf(err);
    if (refusal) {
      const { status, retryable } = REFUSALS[refusal.code];
      if (retryable) res.setHeader('retry-after', '5');
      return void res.status(status).json({ detail: refusal.detail });
    }
    if (err instanceof WorkflowNotFoundError) return void res.status(404).json({ detail: 'not found' });
    const status = statusOf(err);
    if (status !== null && status < 500) return void res.status(status).json({ detail: (err as Error).message });
    log.error(
      {
        event: 'request.failed',
        method: req.method,
        path: req.path,
        requestId: res.locals.requestId,
        err: err instanceof WorkflowUpdateFailedError ? (err.cause ?? err) : err,
      },
      'request.failed',
    );
    res.status(500).json({ detail: `internal error, request id ${String(res.locals.requestId)}` });
  };
}
