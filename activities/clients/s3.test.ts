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
