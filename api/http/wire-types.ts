import { z } from 'zod';

const TRUE = new Set(['true', '1', 'yes', 'on', 't', 'y']);
const FALSE = new Set(['false', '0', 'no', 'off', 'f', 'n']);

/** Booleans of queries, forms and JSON as the reference's framework reads them, any case (spec/validator-api.md §0.3). */
export const wireBoolean = () =>
  z.union([z.boolean(), z.string(), z.number()]).transform((value, context) => {
    if (typeof value === 'boolean') return value;
    const word = String(value).toLowerCase();
    if (TRUE.has(word)) return true;
    if (FALSE.has(word)) return false;
    context.addIssue({ code: 'custom', message: 'Input should be a valid boolean' });
    return z.NEVER;
  });

/** A whole number of a query or form: digits, nothing else. */
export const wireInteger = ({ min = 0, max = Number.MAX_SAFE_INTEGER }: { min?: number; max?: number } = {}) =>
  z
    .union([z.number(), z.string().regex(/^-?[0-9]{1,16}$/, { error: 'Input should be a valid integer' })])
    .transform(Number)
    .pipe(z.number().int().min(min).max(max));

/** Text of a query or form where blank means absent. */
export const blankAsNull = (max = 1024) =>
  z
    .string()
    .max(max)
    .nullish()
    .transform((value) => (value === undefined || value === null || value.trim() === '' ? null : value));

/** A uuid in either case; lower case inside. */
export const wireUuid = () =>
  z
    .string()
    .regex(/^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/, { error: 'Input should be a valid UUID' })
    .transform((value) => value.toLowerCase());

/** A moment of a query: ISO date or date-time, UTC where it names no zone. */
export const wireMoment = () =>
  z.string().transform((value, context) => {
    const hasZone = /(Z|[+-][0-9]{2}:?[0-9]{2})$/i.test(value) || /^[0-9]{4}-[0-9]{2}-[0-9]{2}$/.test(value);
    const moment = new Date(hasZone ? value : `${value}Z`);
    if (/^[0-9]{4}-[0-9]{2}-[0-9]{2}/.test(value) && !Number.isNaN(moment.getTime())) return moment;
    context.addIssue({ code: 'custom', message: 'Input should be an ISO date or date-time' });
    return z.NEVER;
  });
