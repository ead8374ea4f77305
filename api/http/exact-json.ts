import type { Response } from 'express';

// `JSON.rawJSON` and the reviver's source text are in V8, not yet in TypeScript's library.
const rawJson = (JSON as unknown as { rawJSON: (text: string) => unknown }).rawJSON.bind(JSON);

/** JSON where a `bigint` is a bare integer: 64-bit seeds keep every digit (spec/validator-api.md §11.1 no. 5). */
export function exactJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? rawJson(item.toString()) : item));
}

/** The reading side: an integer past 2^53 arrives as `bigint`, every other number as usual. */
export function parseExactJson(text: string): unknown {
  const revive = (_key: string, item: unknown, context?: { source?: string }): unknown =>
    typeof item === 'number' && !Number.isSafeInteger(item) && /^-?[0-9]+$/.test(context?.source ?? '')
      ? BigInt(context?.source ?? '')
      : item;
  return JSON.parse(text, revive) as unknown;
}

/** `res.json` for answers that carry 64-bit integers. */
export function sendExactJson(res: Response, value: unknown, status = 200): void {
  res.status(status).type('application/json').send(exactJson(value));
}
