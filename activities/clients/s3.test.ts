import { randomUUID } from 'node:crypto';
import { afterAll, expect, test } from '@jest/globals';
import { BlobStore } from './s3.ts';

const blobs = new BlobStore({
  endpoint: process.env.CANOPY_TEST_S3_ENDPOINT ?? '',
  region: 'us-east-1',
  bucket: 'canopy',
  accessKey: 'test',
  secretKey: 'testsecret',
});
afterAll(() => blobs.close());

test('a put sends the bytes it was given: it makes no second copy of them', async () => {
  const key = `put-${randomUUID()}`;
  const whole = new Uint8Array(32 * 1024 ** 2).fill(7);
  const bytes = whole.subarray(1, -1);
  const before = process.memoryUsage().arrayBuffers;
  const stored = blobs.put(key, bytes);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(bytes.length / 2);
  expect(await stored).toMatchObject({ key, sizeBytes: bytes.length });
  const got = await blobs.get(key);
  expect(got?.equals(bytes)).toBe(true);
  await blobs.delete(key);
});

test('a list has every object under its prefix, past one page too, and none beside it', async () => {
  const prefix = `list-${randomUUID()}`;
  const keys = Array.from({ length: 1005 }, (_, index) => `${prefix}/${index % 2 ? 'a' : 'b/c'}/${index}`);
  await Promise.all([...keys, `${prefix}-beside`].map((key) => blobs.put(key, 'x')));
  const found: string[] = [];
  for await (const page of blobs.list(`${prefix}/`)) {
    expect(page.length).toBeLessThanOrEqual(1000);
    for (const { key, modifiedAt } of page) {
      found.push(key);
      expect(Math.abs(Date.now() - modifiedAt.getTime())).toBeLessThan(60_000);
    }
  }
  expect(found.sort((a, b) => (a < b ? -1 : 1))).toEqual([...keys].sort((a, b) => (a < b ? -1 : 1)));
  await Promise.all([...keys, `${prefix}-beside`].map((key) => blobs.delete(key)));
  for await (const page of blobs.list(`${prefix}/`)) expect(page).toEqual([]);
}, 60_000);
