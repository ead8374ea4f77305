import { expect, test } from '@jest/globals';
import express from 'express';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';
import { exactJson, parseExactJson } from './exact-json.ts';
import { describeRoute, openapiDocument } from './openapi.ts';
import { containing, MAX_LIMIT, offsetOf, pageQuery, renderPage } from './pagination.ts';
import { redirectSlashless } from './slashes.ts';
import { parse } from './validate.ts';
import { wireBoolean, wireMoment } from './wire-types.ts';

test.each([
  ['true', true],
  ['True', true],
  ['1', true],
  ['YES', true],
  ['on', true],
  ['t', true],
  ['y', true],
  [true, true],
  [1, true],
  ['false', false],
  ['False', false],
  ['0', false],
  ['no', false],
  ['OFF', false],
  ['f', false],
  ['n', false],
  [false, false],
  [0, false],
])('boolean %p is read as %p', (word, expected) => expect(wireBoolean().parse(word)).toBe(expected));
test.each(['', 'maybe', '2', 2, null, []])('boolean %p is refused', (word) =>
  expect(wireBoolean().safeParse(word).success).toBe(false),
);

test('pages default to 25 from 0, and a huge limit is served as the largest', () => {
  const schema = z.object(pageQuery());
  expect(schema.parse({})).toEqual({ page: 0, limit: 25 });
  const page = schema.parse({ page: '3', limit: '100000' });
  expect(page).toEqual({ page: 3, limit: MAX_LIMIT });
  expect(offsetOf(page)).toBe(3 * MAX_LIMIT);
  expect(renderPage({ page: 1, limit: 2 }, 3, ['c'])).toEqual({ total: 3, page: 1, limit: 2, items: ['c'] });
  for (const bad of [{ page: '-1' }, { limit: '0' }, { page: '1.5' }, { page: 'x' }, { limit: '99999999999999999999' }])
    expect(schema.safeParse(bad).success).toBe(false);
});

test('wildcards in a filter are letters', () => expect(containing('50%_\\')).toBe('%50\\%\\_\\\\%'));

test('moments without a zone are UTC', () => {
  expect(wireMoment().parse('2026-01-02T03:04:05').toISOString()).toBe('2026-01-02T03:04:05.000Z');
  expect(wireMoment().parse('2026-01-02').toISOString()).toBe('2026-01-02T00:00:00.000Z');
  expect(wireMoment().safeParse('yesterday').success).toBe(false);
});

test('64-bit integers keep every digit in both directions', () => {
  expect(exactJson({ seed: 18446744073709551615n, list: [1n, 2] })).toBe('{"seed":18446744073709551615,"list":[1,2]}');
  expect(parseExactJson('{"seed":18446744073709551615,"small":7,"price":0.5}')).toEqual({
    seed: 18446744073709551615n,
    small: 7,
    price: 0.5,
  });
});

test('a 422 names every bad field with type, loc, msg and a bounded input', () => {
  const schema = z.object({ name: z.string(), count: z.number(), text: z.string().max(3) });
  try {
    parse(schema, { count: 'x', text: 'y'.repeat(5000) });
    throw new Error('accepted');
  } catch (err) {
    const { fields } = err as { fields: { type: string; loc: unknown[]; input?: unknown }[] };
    expect(fields.map((field) => [field.type, field.loc])).toEqual([
      ['missing', ['body', 'name']],
      ['invalid_type', ['body', 'count']],
      ['too_big', ['body', 'text']],
    ]);
    expect(fields[1]?.input).toBe('x');
    expect(String(fields[2]?.input).length).toBeLessThan(300);
  }
});

test('a slash-less collection is redirected with its query and its method', async () => {
  const app = express().use(redirectSlashless(['/images/', '/']));
  app.get('/images/', (_req, res) => void res.send('list'));
  app.get('/ping', (_req, res) => void res.send('pong'));
  const server = createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const answer = await fetch(`${base}/images?page=2`, { method: 'POST', redirect: 'manual' });
  expect([answer.status, answer.headers.get('location')]).toEqual([307, '/images/?page=2']);
  expect(await (await fetch(`${base}/images/`)).text()).toBe('list');
  expect(await (await fetch(`${base}/ping`)).text()).toBe('pong');
  server.close();
});

test('the document shows a described route: parameters, body, security, answers', () => {
  describeRoute({
    method: 'post',
    path: '/things/:thingId/parts',
    summary: 'Add a part',
    auth: 'user',
    query: z.object({ ...pageQuery(), deep: wireBoolean().optional() }),
    body: z.object({ seed: z.bigint(), name: z.string() }),
    response: z.object({ at: z.date() }),
    status: 202,
  });
  const document = openapiDocument({ title: 'T', version: '1', url: 'http://x' }) as {
    paths: Record<string, Record<string, Record<string, unknown>>>;
  };
  const post = document.paths['/things/{thingId}/parts']?.post;
  expect(((post?.parameters ?? []) as { name: string; in: string }[]).map((each) => `${each.in}:${each.name}`)).toEqual(
    ['path:thingId', 'query:page', 'query:limit', 'query:deep'],
  );
  expect(JSON.stringify(post?.requestBody)).toContain('"int64"');
  expect(Object.keys(post?.responses as object)).toEqual(['202', '401', '422']);
});
