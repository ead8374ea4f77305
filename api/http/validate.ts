import type { z } from 'zod';
import { ValidationError } from './errors.ts';

/** Parses one part of a request or throws the 422 that names every bad field. */
export function parse<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  place: 'body' | 'query' | 'path' | 'header' = 'body',
): z.output<Schema> {
  const result = schema.safeParse(value ?? {}, { reportInput: true });
  if (result.success) return result.data;
  throw ValidationError.from(result.error, place);
}
