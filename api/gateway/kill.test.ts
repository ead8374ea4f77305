import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createTestDatabase } from '../../workers/testing/database.ts';
import { chatHandler, startFakeInstance, type FakeInstance } from './testing/fake-instance.ts';
import { gatewayEnv } from './testing/gateway-under-test.ts';
import { seeder } from './testing/seed.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let fake: FakeInstance;
let dir: string;
const children: ChildProcess[] = [];

beforeAll(async () => {
  database = await createTestDatabase('validator');
  fake = await startFakeInstance();
  dir = await mkdtemp(join(tmpdir(), 'canopy-kill-'));
});
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL');
  await fake.close();
  await database.drop();
  await rm(dir, { recursive: true });
});

/** The real program in a process of its own; resolves with its port once it serves. */
async function startProgram(): Promise<{ child: ChildProcess; url: string }> {
  const env = {
    ...process.env,
    ...gatewayEnv(database.url, join(dir, 'spool')),
    CANOPY_LOG_LEVEL: 'info',
    CANOPY_KEY_BURST: '10000',
    CANOPY_DEFAULT_QUOTA: '100000',
  };
  const child = spawn(process.execPath, [join(import.meta.dirname, 'main.ts')], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    const entry = JSON.parse(line) as { event?: string; port?: number };
    if (entry.event === 'program.listening') return { child, url: `http://127.0.0.1:${entry.port}` };
  }
  throw new Error('the gateway ended before it served');
}

test('a gateway killed at full speed loses no answered call and counts none twice; its successor stores them', async () => {
  const seed = seeder(database.knex);
  const user = await seed.user();
  const key = await seed.key(user.userId);
  const chute = await seed.chute(user.userId, { concurrency: 200 });
  await seed.instance(chute, fake);
  fake.answer((req, res, body) => void chatHandler(req, res, body));
  const answered: string[] = [];
  for (let life = 0; life < 3; life++) {
    const { child, url } = await startProgram();
    const callers = Array.from({ length: 8 }, async (_, index) => {
      const body = JSON.stringify({
        model: chute.name,
        messages: [{ role: 'user', content: 'hello' }],
        stream: index % 2 === 0,
      });
      for (;;) {
        const answer = await fetch(`${url}/v1/chat/completions`, {
          method: 'POST',
          body,
          headers: { authorization: key, 'content-type': 'application/json' },
        });
        const text = await answer.text();
        if (answer.status === 200 && (index % 2 === 1 || text.includes('[DONE]')))
          answered.push(answer.headers.get('x-chutes-invocationid') ?? '');
      }
    });
    const target = answered.length + 300;
    const watch = setInterval(() => {
      if (answered.length >= target) child.kill('SIGKILL');
    }, 1);
    const results = await Promise.allSettled(callers);
    clearInterval(watch);
    expect(results.every(({ status }) => status === 'rejected')).toBe(true);
  }
  const { child } = await startProgram(); // stores what the killed ones left before it serves
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  expect((await gone)[0]).toBe(0);
  const rows = await database.knex('invocations').select('parent_invocation_id', 'error_message');
  const stored = new Set(rows.filter((row) => row.error_message === null).map((row) => row.parent_invocation_id));
  expect(answered.length).toBeGreaterThanOrEqual(900);
  expect(answered.filter((invocationId) => !stored.has(invocationId))).toEqual([]);
  const [usage] = await database.knex('quota_usage').where({ user_id: user.userId }).sum({ used: 'used' });
  expect(Number(usage?.used)).toBe(rows.filter((row) => row.error_message === null).length);
}, 120_000);
