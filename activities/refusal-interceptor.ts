import { ApplicationFailure } from '@temporalio/common';
import type { ActivityInboundCallsInterceptor } from '@temporalio/worker';
import { Refusal, REFUSALS } from '../workflows/domain/errors.ts';

/** Turns a `Refusal` thrown by any activity into a failure the workflow and the API can read by its code. */
export const refusalInterceptor = (): ActivityInboundCallsInterceptor => ({
  async execute(input, next) {
    try {
      return await next(input);
    } catch (err) {
      if (!(err instanceof Refusal)) throw err;
      throw ApplicationFailure.create({
        type: err.code,
        message: err.message,
        nonRetryable: !REFUSALS[err.code].retryable,
        ...(err.cause instanceof Error ? { cause: err.cause } : {}),
      });
    }
  },
});
