import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from '@temporalio/worker';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import { createForgeActivities } from '../../../activities/validator/forge/forge-activities.ts';
import { createProcessBuilder } from '../../../activities/validator/forge/process-builder.ts';
import { chooseSandbox } from '../../../activities/validator/forge/sandbox.ts';
import { renamed, zipOf } from '../../../activities/validator/forge/testing.ts';
import { markedProcesses, openWorkspace, type Workspace } from '../../../activities/validator/forge/workspace.ts';
import { createBuildLogStore } from '../../../activities/validator/images/build-log-store.ts';
import { createImageActivities } from '../../../activities/validator/images/image-activities.ts';
import { createImageStore } from '../../../activities/validator/images/image-store.ts';
import { refusalInterceptor } from '../../../activities/refusal-interceptor.ts';
import type { Hotkey } from '../../../activities/clients/hotkey.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { connectTestTemporal } from '../../../workers/testing/workflow-environment.ts';
import { imageIdOf, uuid5 } from '../../../workflows/domain/ids.ts';
import { createApp } from '../../http/app.ts';
import { insertMiner, insertUser, listen, testDeps } from '../testing/test-api.ts';
import { imageRoutes } from './routes.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let api: Awaited<ReturnType<typeof testDeps>>;
let server: Awaited<ReturnType<typeof listen>>;
let env: TestWorkflowEnvironment;
let workspace: Workspace;
let workDir: string;
let alice: Awaited<ReturnType<typeof insertUser>>;
let bob: Awaited<ReturnType<typeof insertUser>>;
let miner: Hotkey;
const running: Promise<void>[] = [];
const workers: Worker[] = [];
// Fresh names: the run's Temporal is shared, and so are the ids of its workflows.
const unique = Math.random().toString(36).slice(2, 8);

beforeAll(async () => {
  workDir = await mkdtemp(join(tmpdir(), 'images-'));
  database = await createTestDatabase('validator');
  env = await connectTestTemporal();
  api = await testDeps(database, { env: { CANOPY_WORK_DIR: workDir, CANOPY_CONTEXT_MAX_BYTES: '200000' } });
  const { deps } = api;
  workspace = await openWorkspace(workDir);
  const images = createImageStore(deps.db);
  const logs = createBuildLogStore(deps.db);
  const builder = createProcessBuilder(
    await chooseSandbox({ network: 'none', mounts: [], memoryMb: 512, pids: 64, maxFileBytes: 10_000_000 }),
  );
  const interceptors = { activity: [() => ({ inbound: refusalInterceptor() })] };
  const common = { connection: env.nativeConnection, namespace: 'validator', interceptors };
  const workflowsPath = join(import.meta.dirname, '../../../workflows/validator/images/image-build.ts');
  workers.push(
    await Worker.create({
      ...common,
      taskQueue: 'validator',
      workflowsPath,
      activities: createImageActivities({ images, logs, blobs: deps.blobs, registry: null }),
    }),
    await Worker.create({
      ...common,
      taskQueue: 'forge',
      maxHeartbeatThrottleInterval: '1 second',
      activities: createForgeActivities({
        builder,
        workspace,
        images,
        logs,
        blobs: deps.blobs,
        log: deps.log,
        limits: { maxBytes: 10_000_000, memoryMb: 512, cpus: 1, pids: 64 },
      }),
    }),
  );
  running.push(...workers.map((worker) => worker.run()));
  server = await listen(createApp({ program: 'test', log: deps.log, routers: [imageRoutes(deps)] }));
  alice = await insertUser(deps.db, { username: `Ali${unique}` });
  bob = await insertUser(deps.db, { username: `bob${unique}` });
  miner = await insertMiner(deps.db);
}, 120_000);

afterAll(async () => {
  server.close();
  for (const worker of workers) worker.shutdown();
  await Promise.all(running);
  await api.close();
  await database.drop();
  await env.teardown();
  await rm(workDir, { recursive: true, force: true });
}, 60_000);

interface Upload {
  name?: string;
  tag?: string;
  dockerfile?: string;
  zip?: Buffer;
  over?: Record<string, string | null>;
  by?: typeof alice;
}
async function upload({
  name = 'app',
  tag = 'v1',
  dockerfile = 'FROM scratch\nRUN echo hello',
  zip,
  over = {},
  by = alice,
}: Upload) {
  const form = new FormData();
  const fields = {
    wait: 'False',
    username: by.username,
    name,
    tag,
    readme: '',
    dockerfile,
    public: 'False',
    logo_id: '__none__',
    image: 'gASVpickle',
    ...over,
  };
  for (const [field, value] of Object.entries(fields)) if (value !== null) form.append(field, value);
  if (over.build_context !== null) {
    form.append(
      'build_context',
      new Blob([new Uint8Array(zip ?? (await zipOf({ 'app.py': 'print(1)' })))]),
      'chute.zip',
    );
  }
  const encoded = new Request('http://x', { method: 'POST', body: form });
  const body = Buffer.from(await encoded.arrayBuffer());
  return post(body, encoded.headers.get('content-type') ?? '', by);
}
const post = (body: Buffer, contentType: string, by = alice) =>
  fetch(`${server.url}/images/`, {
    method: 'POST',
    body: new Uint8Array(body),
    headers: { 'content-type': contentType, ...by.hotkey.clientHeaders({ body }) },
  });
const call = (path: string, by: Hotkey = alice.hotkey, method = 'GET', purpose: 'images' | 'registry' = 'images') =>
  fetch(`${server.url}${path}`, { method, headers: by.clientHeaders({ purpose }) });

/** Waits for the end of a build by its own log stream. */
async function finished(imageId: string): Promise<Record<string, unknown>> {
  await (await call(`/images/${imageId}/logs`)).text();
  return (await (await call(`/images/${imageId}`)).json()) as Record<string, unknown>;
}
const answer = async (response: Response) => ({
  status: response.status,
  body: (await response.json()) as Record<string, unknown>,
});

test('an upload is answered with its row, built, and seen by id in every spelling and by name', async () => {
  const { status, body } = await answer(await upload({ name: 'lib/app' }));
  expect(status).toBe(202);
  const imageId = imageIdOf(alice.username, 'lib/app', 'v1');
  expect(body).toMatchObject({ image_id: imageId, user_id: alice.userId, public: false, patch_version: 'initial' });
  expect(await finished(imageId)).toMatchObject({ status: 'built and pushed', user: { username: alice.username } });
  const exactCase = uuid5(`${alice.username}/lib/app:v1`);
  for (const path of [
    imageId,
    exactCase,
    'lib/app:v1',
    `${alice.username}/lib/app:v1`,
    encodeURIComponent('lib/app:v1'),
  ]) {
    expect((await answer(await call(`/images/${path}`))).body).toMatchObject({
      image_id: imageId,
      name: 'lib/app',
      tag: 'v1',
    });
  }
  expect((await call(`/images/${imageId}`, bob.hotkey)).status).toBe(404);
  const listed = (await answer(await call('/images/?name=IB/A&page=0&limit=5'))).body;
  expect(listed).toMatchObject({ total: 1, page: 0, limit: 5, items: [{ image_id: imageId }] });
  expect((await answer(await call('/images/?name=%25'))).body).toMatchObject({ total: 0 });
  const archive = await call(`/images/${imageId}/archive`);
  expect(archive.headers.get('content-type')).toBe('application/gzip');
  expect(archive.headers.get('content-length')).toBe(String((await archive.arrayBuffer()).byteLength));
  expect((await call(`/images/${imageId}/archive`, miner, 'GET', 'registry')).status).toBe(200);
  expect((await call(`/images/${imageId}/archive`, miner)).status).toBe(401);
  expect((await call(`/images/${imageId}/archive`, bob.hotkey)).status).toBe(404);
  const events = await database.knex('events').whereRaw(`payload->'data'->>'image_id' = ?`, [imageId]);
  expect(events.map((event: { payload: { reason: string } }) => event.payload.reason)).toEqual(['image_created']);
  expect((await upload({ name: 'lib/app' })).status).toBe(409);
});

test('every reader of a running build gets each line once and DONE; a log resumes by offset; a finished one is text', async () => {
  const gate = 'FROM scratch\nRUN for i in 1 2 3 4; do echo line $i; sleep 0.7; done';
  const { body } = await answer(await upload({ name: 'logs', dockerfile: gate }));
  const path = `/images/${String(body.image_id)}/logs`;
  const responses = await Promise.all([call(path), call(path)]);
  expect(responses[0].headers.get('content-type')).toBe('text/event-stream');
  expect(responses[0].headers.get('x-accel-buffering')).toBe('no');
  const texts = await Promise.all(responses.map((response) => response.text()));
  const framesOf = (text: string) => text.split('\n').filter((line) => line.startsWith('data: '));
  for (const text of texts) {
    expect(text.endsWith('DONE\n')).toBe(true);
    expect(text).not.toContain('\n\n');
    expect(framesOf(text).filter((frame) => /line \d/.test(frame) && !frame.includes('RUN'))).toHaveLength(4);
  }
  expect(framesOf(texts[0] ?? '')).toEqual(framesOf(texts[1] ?? ''));
  const frame = JSON.parse((framesOf(texts[0] ?? '')[2] ?? '').slice(6)) as { log: unknown; offset: string };
  expect(frame.log).toMatchObject({ log_type: 'stdout' });
  expect(frame.offset).toMatch(/^\d+-\d+$/);
  // The state a reader met while it ran, with the log already there.
  await database.knex('images').where({ image_id: body.image_id }).update({ status: 'building' });
  const resumed = await fetch(`${server.url}${path}?offset=${frame.offset}`, {
    headers: alice.hotkey.clientHeaders({ purpose: 'images' }),
  });
  const reader = resumed.body?.getReader();
  const chunk = await reader?.read();
  const first = Buffer.from(chunk?.value ?? []).toString();
  expect(first.startsWith(framesOf(texts[0] ?? '')[3] ?? 'missing')).toBe(true);
  await reader?.cancel();
  await database.knex('images').where({ image_id: body.image_id }).update({ status: 'built and pushed' });
  const text = await call(path);
  expect(text.headers.get('content-type')).toContain('text/plain');
  expect(await text.text()).toMatch(/line 1\nline 2\nline 3\nline 4\n/);
  expect((await call(`${path}?offset=abc`)).status).toBe(422);
}, 60_000);

test('a Dockerfile that fails ends as an error with its reason, in status and log, and no event', async () => {
  const { body } = await answer(await upload({ name: 'failing', dockerfile: 'FROM scratch\nRUN exit 7' }));
  const image = await finished(String(body.image_id));
  expect(image.status).toBe('error: Dockerfile line 2: RUN: exit 7 returned 7');
  expect(await (await call(`/images/${String(body.image_id)}/logs`)).text()).toContain('exit 7 returned 7');
  expect(await database.knex('events').whereRaw(`payload->'data'->>'image_id' = ?`, [String(body.image_id)])).toEqual(
    [],
  );
});

test('deleting while it builds kills the build, removes rows and objects, and tells the miners', async () => {
  const { body } = await answer(await upload({ name: 'doomed', dockerfile: 'FROM scratch\nRUN echo up; sleep 1000' }));
  const imageId = String(body.image_id);
  const stream = (await call(`/images/${imageId}/logs`)).text();
  for (;;) {
    const lines = await database.knex('image_build_log').where({ image_id: imageId, log: 'up' });
    if (lines.length > 0) break;
    await new Promise((wake) => setTimeout(wake, 50));
  }
  expect((await call(`/images/${imageId}`, bob.hotkey, 'DELETE')).status).toBe(404);
  expect((await answer(await call('/images/doomed:v1', alice.hotkey, 'DELETE'))).body).toEqual({
    image_id: imageId,
    deleted: true,
  });
  expect(await markedProcesses(workspace.id)).toEqual([]);
  expect(await readdir(workspace.dir)).toEqual([]);
  expect((await call(`/images/${imageId}`)).status).toBe(404);
  expect((await stream).endsWith('DONE\n')).toBe(true);
  const events = await database.knex('events').whereRaw(`payload->'data'->>'image_id' = ?`, [imageId]);
  expect(events.map((event: { payload: { reason: string } }) => event.payload.reason)).toEqual(['image_deleted']);
  expect((await upload({ name: 'doomed' })).status).toBe(202);
}, 60_000);

test.each<[string, Upload, number, RegExp]>([
  ['another user name', { over: { username: 'mallory' } }, 401, /username/],
  ['no context', { over: { build_context: null } }, 422, /build_context/],
  ['no Dockerfile', { over: { dockerfile: null } }, 422, /dockerfile/],
  ['a boolean that is none', { over: { public: 'perhaps' } }, 422, /public/],
  ['a name with capitals', { name: 'App' }, 422, /lower-case/],
  ['a tag with a slash', { tag: 'a/b' }, 422, /tag must/],
  ['a logo that is no id', { over: { logo_id: 'x' } }, 422, /logo_id/],
  ['a context that is no zip', { zip: Buffer.from('nothing') }, 400, /build context/],
  ['a context too large', { zip: Buffer.alloc(200_001) }, 413, /larger/],
  ['a Dockerfile too large', { dockerfile: `FROM scratch\n#${'x'.repeat(1024 ** 2)}` }, 422, /at most/],
])('%s is refused, and nothing is kept', async (_, parts, status, detail) => {
  const response = await upload({ name: 'refused', ...parts });
  expect(response.status).toBe(status);
  expect(JSON.stringify(await response.json())).toMatch(detail);
  expect(await database.knex('images').where({ name: 'refused' })).toEqual([]);
  // The spooled body goes when the response has ended, which the client may see first.
  while ((await readdir(join(workDir, 'uploads'))).length > 0) await new Promise((wake) => setTimeout(wake, 10));
});

test('a context that would leave its folder is refused at the door', async () => {
  const zip = renamed(await zipOf({ 'xx/evil': '1' }), 'xx/evil', '../evil');
  const { status, body } = await answer(await upload({ name: 'refused', zip }));
  expect({ status, detail: body.detail }).toEqual({ status: 400, detail: expect.stringContaining('build context') });
});

test.each([
  ['cut short', '--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nap', 'multipart/form-data; boundary=b', 400],
  ['without a boundary', 'x', 'multipart/form-data', 400],
  ['of another kind', '{}', 'application/json', 400],
])('a body %s is refused', async (_, body, contentType, status) => {
  const answered = await answer(await post(Buffer.from(body), contentType));
  expect(answered).toEqual({ status, body: { detail: expect.stringContaining('multipart') } });
});

test.each<[string, () => Record<string, string>]>([
  ['no credentials', () => ({})],
  ['a wrong API key', () => ({ authorization: `Bearer cpk_${'0'.repeat(32)}.${'0'.repeat(32)}.${'x'.repeat(32)}` })],
  ['a hotkey nobody knows', () => api.deps.hotkey.clientHeaders({ body: Buffer.from('x') })],
  [
    'a stale signature',
    () => ({ ...alice.hotkey.clientHeaders({ body: Buffer.from('x') }), 'x-chutes-nonce': '1000' }),
  ],
])('an upload of 100 MB with %s is refused before a byte of it came', async (_, credentials) => {
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  try {
    const headers = { host: 'x', 'content-type': 'multipart/form-data; boundary=b', ...credentials() };
    const head = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`POST /images/ HTTP/1.1\r\n${head.join('')}content-length: ${100 * 1024 ** 2}\r\n\r\n`);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(String(answer)).toMatch(/^HTTP\/1\.1 401 /);
  } finally {
    socket.destroy();
  }
});

test('unknown fields are ignored', async () => {
  expect((await upload({ name: 'extra', over: { surprise: 'x'.repeat(5_000) } })).status).toBe(202);
});

test('the 25th operation of a day is refused', async () => {
  const carol = await insertUser(api.deps.db, { username: `car${unique}` });
  await database
    .knex('image_operations')
    .insert(Array.from({ length: 24 }, () => ({ user_id: carol.userId, image_id: alice.userId, operation: 'create' })));
  expect((await upload({ by: carol })).status).toBe(429);
});

test('an image that a chute uses is not deleted', async () => {
  const { body } = await answer(await upload({ name: 'used' }));
  await finished(String(body.image_id));
  await database.knex('chutes').insert({
    chute_id: body.image_id,
    user_id: alice.userId,
    image_id: body.image_id,
    name: 'c',
    slug: `c-${unique}`,
    version: body.image_id,
    public: false,
    code: '',
    filename: 'c.py',
    ref_str: 'c:c',
    node_selector: '{}',
    chutes_version: '0',
  });
  expect(await answer(await call(`/images/${String(body.image_id)}`, alice.hotkey, 'DELETE'))).toEqual({
    status: 409,
    body: { detail: 'image is in use by a chute' },
  });
});

test('each mutating activity run twice leaves the same state', async () => {
  const images = createImageStore(api.deps.db);
  const logs = createBuildLogStore(api.deps.db);
  const activities = createImageActivities({ images, logs, blobs: api.deps.blobs, registry: null });
  const imageId = imageIdOf(bob.username, 'twice', 'v1');
  const order = {
    imageId,
    userId: bob.userId,
    username: bob.username,
    name: 'twice',
    tag: 'v1',
    readme: '',
    logoId: null,
    public: true,
    chutesVersion: '0',
    contextKey: 'test/c',
    contextSha256: 'c',
    dockerfileKey: 'test/d',
    dockerfileSha256: 'd',
    submittedAtMs: Date.now(),
    unlimited: false,
  };
  const state = async () => ({
    image: await database.knex('images').where({ image_id: imageId }),
    operations: await database.knex('image_operations').where({ image_id: imageId }),
    lines: await database.knex('image_build_log').where({ image_id: imageId }),
    events: await database.knex('events').whereRaw(`payload->'data'->>'image_id' = ?`, [imageId]),
  });
  const result = {
    kind: 'built' as const,
    artifact: {
      kind: 'archive' as const,
      key: 'test/a',
      sha256: 'a',
      sizeBytes: 1,
      command: [],
      workingDir: '/',
      env: {},
    },
  };
  const deletion = { imageId, userId: bob.userId, unlimited: false, requestedAtMs: Date.now() };
  for (const act of [
    () => activities.recordImage(order),
    () => activities.finishBuild({ imageId, result }),
    () => activities.forgetImage(deletion),
  ]) {
    await act();
    const once = await state();
    await act();
    const { lines, ...twice } = await state();
    expect({ ...twice, lines: lines.length }).toEqual({ ...once, lines: once.lines.length });
  }
  expect((await state()).events).toHaveLength(2);
});
