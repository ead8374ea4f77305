import { ApplicationFailure } from '@temporalio/workflow';
import type { RefusalCode } from '../../domain/errors.ts';

/** A business "no" of workflow code: the API shows it by its code. */
export const refuse = (code: RefusalCode, detail: string): ApplicationFailure =>
  ApplicationFailure.nonRetryable(detail, code);
