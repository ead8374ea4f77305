import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';
import { publishToPublic } from '../../activities/validator/events/event-outbox.ts';
import { createTestDatabase } from '../../workers/testing/database.ts';

// Each test starts whole programs, and a loaded machine takes its time.
jest.setTimeout(90_000);

let database: Awaited<ReturnType<typeof createTestDatabase>>;
const children: ChildProcess[] = [];

beforeAll(async () => {
  database = await createTestDatabase('validator');
});
afterEach(() => {
  for (const child of children.splice(0)) if (child.exitCode === null) child.kill('SIGKILL');
});
afterAll(() => database.drop());

const environment = (): Record<string, string> => ({
  PATH: process.env.PATH ?? '',
  CANOPY_DATABASE_URL: database.url,
  CANOPY_TEMPORAL_ADDRESS: process.env.CANOPY_TEST_TEMPORAL ?? '',
  CANOPY_S3_ENDPOINT: process.env.CANOPY_TEST_S3_ENDPOINT ?? '',
  CANOPY_S3_BUCKET: 'canopy',
  CANOPY_S3_ACCESS_KEY: 'test',
  CANOPY_S3_SECRET_KEY: 'testsecret',
  CANOPY_PUBLIC_URL: 'http://127.0.0.1:8000',
  CANOPY_VALIDATOR_SEED: '11'.repeat(32),
  CANOPY_KEY_PEPPER: '22'.repeat(32),
  CANOPY_SECRETS_KEY: '33'.repeat(32),
  CANOPY_LAUNCH_KEY: 'a launch key for tests',
  CANOPY_LISTEN_PORT: '0',
});

function run(args: string[], env: Record<string, string>): ChildProcess {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...args], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  return child;
}

/** Starts a program and waits for the line that says where it listens. */
async function start(entry: string): Promise<{ child: ChildProcess; url: string }> {
  const child = run([entry], environment());
  if (!child.stdout) throw new Error('no stdout');
  for await (const line of createInterface({ input: child.stdout })) {
    const { event, port } = JSON.parse(line) as { event?: string; port?: number };
    if (event === 'program.listening') {
      child.stdout.resume();
      return { child, url: `http://127.0.0.1:${port}` };
    }
  }
  throw new Error(`${entry} ended before it listened`);
}

async function stop(child: ChildProcess): Promise<unknown> {
  const exited = once(child, 'exit');
  child.kill('SIGTERM');
  return (await exited)[0];
}

test('the schema step works, twice, and refuses what it does not know', async () => {
  for (const args of [
    ['validator', 'up'],
    ['validator', 'up'],
  ]) {
    const [code] = await once(run(['infra/migrations/cli.ts', ...args], environment()), 'exit');
    expect(code).toBe(0);
  }
  const [code] = await once(run(['infra/migrations/cli.ts', 'auditor', 'up'], environment()), 'exit');
  expect(code).toBe(2);
});

test('the API starts from its environment, serves every slice, and stops clean', async () => {
  const { child, url } = await start('api/validator/main.ts');
  expect(await (await fetch(`${url}/ping`)).json()).toEqual({ message: 'pong' });
  // One route of each slice: told apart from a missing one by its status.
  const mounted = [
    '/users/me',
    '/api_keys/',
    '/images/',
    '/nodes/',
    '/miner/nodes/',
    '/instances/launch_config',
    '/invocations/exports/2020/01/01/00.csv',
  ];
  const statuses = await Promise.all(mounted.map(async (path) => [path, (await fetch(url + path)).status]));
  expect(statuses.filter(([, status]) => status === 500)).toEqual([]);
  expect(Object.fromEntries(statuses)).toMatchObject({
    '/users/me': 401,
    '/api_keys/': 401,
    '/images/': 401,
    '/nodes/': expect.any(Number),
    '/miner/nodes/': 401,
    '/instances/launch_config': 401,
  });
  expect((await fetch(`${url}/chutes/`)).status).toBe(200);
  const { paths } = (await (await fetch(`${url}/openapi.json`)).json()) as { paths: Record<string, object> };
  for (const slice of [
    '/users/',
    '/api_keys/',
    '/images/',
    '/chutes/',
    '/nodes/',
    '/miner/',
    '/instances/',
    '/invocations/',
  ])
    expect({ slice, routes: Object.keys(paths).filter((path) => path.startsWith(slice)).length > 0 }).toEqual({
      slice,
      routes: true,
    });
  expect(await stop(child)).toBe(0);
});

test('the sockets program starts, delivers, and stops clean with sockets open', async () => {
  const { child, url } = await start('api/sockets/main.ts');
  while ((await fetch(`${url}/health`)).status !== 200) await new Promise((resolve) => setTimeout(resolve, 20));
  const socket = io(url, { path: '/events/socket.io/', transports: ['websocket'], reconnection: false });
  try {
    await once(socket as never, 'connect');
    const got = once(socket as never, 'events');
    await publishToPublic(database.knex, 'bounty_change', { chute_id: 'c', bounty: 1 }, 'm');
    expect((await got)[0]).toMatchObject({ reason: 'bounty_change' });
    expect(await stop(child)).toBe(0);
  } finally {
    socket.disconnect();
  }
});

test('a bad environment ends a program with every bad name and no value', async () => {
  const child = spawn(process.execPath, ['api/validator/main.ts'], {
    env: { ...environment(), CANOPY_KEY_PEPPER: 'hunter2', CANOPY_S3_ENDPOINT: '' },
  });
  children.push(child);
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const [code] = await once(child, 'exit');
  expect(code).toBe(1);
  expect(text).toContain('CANOPY_KEY_PEPPER');
  expect(text).toContain('CANOPY_S3_ENDPOINT is missing');
  expect(text).not.toContain('hunter2');
});
