import { expect, jest, test } from '@jest/globals';
import { connectDatabase } from './postgres.ts';

test('a database that cannot be reached is an error for who asked, and nothing on the console', async () => {
  const printed = (['log', 'warn', 'error'] as const).map((name) => jest.spyOn(console, name));
  const db = connectDatabase({ url: 'postgres://x:x@127.0.0.1:1/x', poolMax: 1, applicationName: 'test' });
  try {
    await expect(db.raw('select 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    for (const spy of printed) expect(spy).not.toHaveBeenCalled();
  } finally {
    for (const spy of printed) spy.mockRestore();
    await db.destroy();
  }
});
