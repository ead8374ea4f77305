import { spawn } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import getPort from 'get-port';
import { Pool } from 'undici';
import { connectDatabase } from '../activities/clients/postgres.ts';
import { startFakeInstance } from '../api/gateway/testing/fake-instance.ts';
import { gatewayEnv } from '../api/gateway/testing/gateway-under-test.ts';
import { seeder } from '../api/gateway/testing/seed.ts';
import { startPostgres } from '../infra/dev/services/postgres.ts';
import { migrate } from '../infra/migrations/migrate.ts';

/**
 * What the gateway adds to a call: the same instance asked directly and through the gateway, in one run, with key, quota
 * and metering on. `node bench/gateway.ts [seconds] [callers]`; milliseconds, requests a second.
 */
const seconds = Number(process.argv[2] ?? 5);
const callers = Number(process.argv[3] ?? 16);

const dir = await mkdtemp(join(tmpdir(), 'canopy-bench-'));
await chmod(dir, 0o755); // Postgres runs as a user of its own when we are root
const postgres = await startPostgres({
  dir: join(dir, 'postgres'),
  port: await getPort({ host: '127.0.0.1' }),
  password: 'bench',
  ephemeral: true,
  logFile: join(dir, 'postgres.log'),
});
const databaseUrl = postgres.url('postgres');
const db = connectDatabase({ url: databaseUrl, poolMax: 5, applicationName: 'bench' });
await migrate(db, 'validator');
const instance = await startFakeInstance();
const seed = seeder(db);
const user = await seed.user();
const key = await seed.key(user.userId);
const chute = await seed.chute(user.userId, { concurrency: 256 });
await seed.instance(chute, instance);
const gateway = spawn(process.execPath, [join(import.meta.dirname, '../api/gateway/main.ts')], {
  stdio: ['ignore', 'pipe', 'inherit'],
  env: {
    ...process.env,
    ...gatewayEnv(databaseUrl, join(dir, 'spool')),
    CANOPY_LOG_LEVEL: 'info',
    CANOPY_KEY_REQUESTS_PER_MINUTE: '100000000',
    CANOPY_KEY_BURST: '100000000',
    CANOPY_DEFAULT_QUOTA: '100000000',
  },
});

interface Line {
  name: string;
  requestsPerS: number;
  p50: number;
  p99: number;
  firstP50: number;
  firstP99: number;
  failed: number;
}

try {
  const port = await gatewayPort();
  const direct = new Pool(`https://127.0.0.1:${instance.port}`, {
    connect: { rejectUnauthorized: false },
    connections: callers,
  });
  const through = new Pool(`http://127.0.0.1:${port}`, { connections: callers });
  const lines: Line[] = [];
  for (const stream of [false, true]) {
    const kind = stream ? 'stream' : 'whole';
    for (const [count, label] of [
      [1, '1 caller'],
      [callers, `${callers} callers`],
    ] as const) {
      await measure('', direct, instance.secret, stream, count, 1); // warm, not shown
      await measure('', through, key, stream, count, 1);
      lines.push(await measure(`${kind}, ${label}, direct`, direct, instance.secret, stream, count, seconds));
      lines.push(await measure(`${kind}, ${label}, gateway`, through, key, stream, count, seconds));
    }
  }
  console.table(
    Object.fromEntries(
      lines.map(({ name, requestsPerS, p50, p99, firstP50, firstP99, failed }) => [
        name,
        {
          'req/s': Math.round(requestsPerS),
          p50: ms(p50),
          p99: ms(p99),
          'first byte p50': ms(firstP50),
          'first byte p99': ms(firstP99),
          failed,
        },
      ]),
    ),
  );
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const [plain, routed] = [lines[at], lines[at + 1]];
    if (!plain || !routed) continue;
    const added = `p50 +${ms(routed.p50 - plain.p50)} ms, p99 +${ms(routed.p99 - plain.p99)} ms, first byte +${ms(routed.firstP50 - plain.firstP50)} ms`;
    console.log(`${routed.name}: ${added}, ${ms(routed.requestsPerS / plain.requestsPerS)} of the direct rate`);
  }
  await Promise.all([direct.destroy(), through.destroy()]);
} finally {
  gateway.kill('SIGTERM');
  await instance.close();
  await db.destroy();
  await postgres.stop();
  await rm(dir, { recursive: true, force: true });
}

async function gatewayPort(): Promise<number> {
  for await (const line of createInterface({ input: gateway.stdout })) {
    const entry = JSON.parse(line) as { event?: string; port?: number };
    if (entry.event === 'program.listening' && entry.port) {
      gateway.stdout.resume();
      return entry.port;
    }
  }
  throw new Error('the gateway ended before it served');
}

/** Callers that each ask again as soon as they are answered. */
async function measure(
  name: string,
  pool: Pool,
  bearer: string,
  stream: boolean,
  count: number,
  forS: number,
): Promise<Line> {
  const body = JSON.stringify({
    model: chute.name,
    stream,
    stream_options: { include_usage: true },
    messages: [{ role: 'user', content: 'hello there' }],
  });
  const headers = { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' };
  const [whole, first]: [number[], number[]] = [[], []];
  let failed = 0;
  const startedAt = performance.now();
  const caller = async (): Promise<void> => {
    while (performance.now() - startedAt < forS * 1000) {
      const askedAt = performance.now();
      const answer = await pool.request({ method: 'POST', path: '/v1/chat/completions', headers, body });
      let isFirst = true;
      for await (const chunk of answer.body as AsyncIterable<Buffer>) {
        if (isFirst && chunk.length > 0) first.push(performance.now() - askedAt);
        isFirst = false;
      }
      whole.push(performance.now() - askedAt);
      if (answer.statusCode !== 200) failed += 1;
    }
  };
  await Promise.all(Array.from({ length: count }, caller));
  const elapsedS = (performance.now() - startedAt) / 1000;
  const at = (values: number[], share: number): number =>
    [...values].sort((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.NaN;
  return {
    name,
    requestsPerS: whole.length / elapsedS,
    p50: at(whole, 0.5),
    p99: at(whole, 0.99),
    firstP50: at(first, 0.5),
    firstP99: at(first, 0.99),
    failed,
  };
}

function ms(value: number): number {
  return Number(value.toFixed(2));
}
