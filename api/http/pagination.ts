import { z } from 'zod';
import { wireInteger } from './wire-types.ts';

/** The reference has no maximum (spec/validator-api.md §0.3 [W]): a larger `limit` is served as this one. */
export const MAX_LIMIT = 500;

/** Spread into a list route's query schema: `z.object({ ...pageQuery(), name: … })`. */
export const pageQuery = ({ limit = 25 }: { limit?: number } = {}) => ({
  page: wireInteger({ max: 1_000_000 }).default(0),
  limit: wireInteger({ min: 1, max: 1_000_000 })
    .default(limit)
    .transform((value) => Math.min(value, MAX_LIMIT)),
});

export interface Page {
  page: number;
  limit: number;
}

export const offsetOf = ({ page, limit }: Page): number => page * limit;

export interface PageBody<Item> {
  total: number;
  page: number;
  limit: number;
  items: Item[];
}

/** The body of every list route; spread what one route adds beside it (`cord_refs`). */
export const renderPage = <Item>({ page, limit }: Page, total: number, items: Item[]): PageBody<Item> => ({
  total,
  page,
  limit,
  items,
});

/** Schema of such a body, for the OpenAPI document. */
export const pageOf = <Item extends z.ZodType>(item: Item) =>
  z.object({ total: z.number().int(), page: z.number().int(), limit: z.number().int(), items: z.array(item) });

/** A caller's text inside a LIKE pattern: `%`, `_` and `\` stand for themselves. */
export const containing = (text: string): string => `%${text.replace(/[\\%_]/g, (char) => `\\${char}`)}%`;
