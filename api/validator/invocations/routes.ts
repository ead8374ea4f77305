import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { Router, type Response } from 'express';
import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import { csvOfHour, findExport } from '../../../activities/validator/exports/export-store.ts';
import { dailyUsage, llmStats, recentCalls } from '../../../activities/validator/exports/usage-store.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import {
  csvLine,
  exportPath,
  INVOCATION_COLUMNS,
  pythonLiteral,
  readExportName,
} from '../../../workflows/domain/metering/export-csv.ts';
import { describeRoute } from '../../http/openapi.ts';
import { parse } from '../../http/validate.ts';
import type { ValidatorDeps } from '../deps.ts';

const RECENT_COLUMNS = INVOCATION_COLUMNS.filter((name) => name !== 'parent_invocation_id');
const recentQuery = z.object({
  hotkey: z.string().max(64).optional(),
  limit: z.coerce.number().int().min(1).max(10_000).default(100),
});
/** Files built while they are asked for: a few at once, for anyone may ask. */
const MOST_PARTIAL = 2;

/** `/invocations` (spec/validator-api.md §2.12): public, read only. */
export function invocationRoutes({ db, blobs }: Pick<ValidatorDeps, 'db' | 'blobs'>): Router {
  const cache = new LRUCache<string, object>({
    max: 10,
    ttl: 300_000,
    fetchMethod: (name) => (name === 'usage' ? dailyUsage(db) : llmStats(db)),
  });
  let partial = 0;

  const sendPartial = async (res: Response, kind: 'invocations' | 'reports' | 'jobs', endMs: number): Promise<void> => {
    if (partial >= MOST_PARTIAL)
      throw new Refusal('rate.limited', 'too many exports of the running hour are being built');
    partial += 1;
    try {
      res.setHeader('X-Canopy-Partial', 'true');
      await db.transaction(
        async (trx) => {
          const lines = async function* (): AsyncGenerator<string> {
            for await (const { text } of csvOfHour(trx, kind, endMs)) yield text;
          };
          await pipeline(Readable.from(lines()), res);
        },
        { isolationLevel: 'repeatable read', readOnly: true },
      );
    } finally {
      partial -= 1;
    }
  };

  return Router()
    .get('/invocations/exports/recent', async (req, res) => {
      const { hotkey, limit } = parse(recentQuery, req.query, 'query');
      const rows = await recentCalls(db, { hotkey: hotkey ?? null, limit });
      const lines = rows.map((row) =>
        csvLine(RECENT_COLUMNS.map((name) => (name === 'metrics' ? pythonLiteral(row[name]) : cell(row[name])))),
      );
      res.type('text/csv').send(csvLine(RECENT_COLUMNS) + lines.join(''));
    })
    .get('/invocations/exports/:year/:month/:day/:file', async (req, res) => {
      const { year, month, day, file } = req.params;
      const name = readExportName(year, month, day, file, Date.now());
      if (name === 'bad_name')
        throw new Refusal('request.invalid', 'no export has this name: {year}/{month}/{day}/{HH}[-reports|-jobs].csv');
      if (name === 'out_of_range') throw new Refusal('resource.not_found', 'no export exists for this hour');
      const path = exportPath(name.kind, name.endMs);
      const stored = await findExport(db, path);
      const bytes = stored && (await blobs.stream(stored.objectKey));
      if (!stored && req.query.partial !== 'true')
        throw new Refusal('resource.not_found', 'this hour is not exported yet');
      if (stored && !bytes) throw new Error(`object of export ${path} is missing`);
      res.type('text/csv');
      res.setHeader('content-disposition', `attachment; filename="${path.replaceAll('/', '-')}"`);
      if (!stored || !bytes) return sendPartial(res, name.kind, name.endMs);
      res.setHeader('content-length', String(stored.sizeBytes));
      await pipeline(bytes, res);
    })
    .get('/invocations/usage', async (_req, res) => void res.json(await cache.fetch('usage')))
    .get('/invocations/stats/llm', async (_req, res) => void res.json(await cache.fetch('llm')));
}

const cell = (value: unknown): string | number | null =>
  typeof value === 'number' || typeof value === 'string' ? value : null;

describeRoute({
  method: 'get',
  path: '/invocations/exports/:year/:month/:day/:file',
  summary: 'Invocations, reports or jobs of one hour',
  auth: 'none',
  response: { contentType: 'text/csv' },
});
describeRoute({
  method: 'get',
  path: '/invocations/exports/recent',
  summary: 'The latest invocations',
  auth: 'none',
  query: recentQuery,
  response: { contentType: 'text/csv' },
});
describeRoute({
  method: 'get',
  path: '/invocations/usage',
  summary: 'Use of the network by day',
  auth: 'none',
  response: z.unknown(),
});
describeRoute({
  method: 'get',
  path: '/invocations/stats/llm',
  summary: 'Tokens of language models by day',
  auth: 'none',
  response: z.unknown(),
});
