import { createHash, createPublicKey, diffieHellman, generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, jest, test } from '@jest/globals';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { refusalInterceptor } from '../../../activities/refusal-interceptor.ts';
import type { Hotkey } from '../../../activities/clients/hotkey.ts';
import { createChuteActivities } from '../../../activities/validator/chutes/chute-activities.ts';
import { createInstanceActivities } from '../../../activities/validator/instances/instance-activities.ts';
import { profilesOf } from '../../../activities/validator/proof/choose-profile.ts';
import { createProofSessionActivities } from '../../../activities/validator/proof/proof-session-activities.ts';
import { createProofVerificationActivities } from '../../../activities/validator/proof/proof-verification-activities.ts';
import { workflowBundle } from '../../../workers/bundle.ts';
import { mergeActivities } from '../../../workers/merge-activities.ts';
import { createTestDatabase } from '../../../workers/testing/database.ts';
import { insertChute, insertNode, TEST_CERTIFICATE } from '../../../workers/testing/launch-fixture.ts';
import { PROFILES } from '../../../workflows/domain/proof/profiles.ts';
import type { PovwChallenge } from '../../../workflows/domain/proof/messages.ts';
import { openingsToBinary } from '../../../workflows/domain/proof/openings-binary.ts';
import type { ProofPluginName } from '../../../workflows/domain/proof/plugin.ts';
import { openingsBytesAtMost } from '../../../workflows/domain/proof/profile-rows.ts';
import { seedOf } from '../../../workflows/domain/proof/povw-hashes.ts';
import { createProver } from '../../../workflows/domain/proof/prover.ts';
import { openSessionSecret } from '../../../workflows/domain/protocol/sealed-secret.ts';
import { instanceWorkflowId } from '../../../workflows/ids.ts';
import { instanceStatus, type InstanceState } from '../../../workflows/validator/instances/messages.ts';
import { SEARCH_ATTRIBUTES } from '../../../workflows/search-attributes.ts';
import { TASK_QUEUES } from '../../../workflows/task-queues.ts';
import { createApp } from '../../http/app.ts';
import type { ValidatorDeps } from '../deps.ts';
import { insertMiner, insertUser, listen, testDeps } from '../testing/test-api.ts';
import { proofRoutes } from '../proofs/routes.ts';
import { instanceRoutes } from './routes.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let env: TestWorkflowEnvironment;
let deps: ValidatorDeps;
let url: string;
/** How this network proves; a test may change it for its own launches. */
let plugin: ProofPluginName = 'simulated';
let isProvable = true;
const table = { rows: [], allowsUnmeasured: false };
const network = {
  CANOPY_NETUID: 64,
  get CANOPY_PROOF() {
    return plugin;
  },
};
afterEach(() => {
  plugin = 'simulated';
  isProvable = true;
});
let owner: Awaited<ReturnType<typeof insertUser>>;
const closing: (() => unknown)[] = [];

// A server of its own: other files' workers poll the same queue names.
beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  const path = process.env.CANOPY_TEST_TEMPORAL_BINARY ?? '';
  [database, env] = await Promise.all([
    createTestDatabase('validator'),
    TestWorkflowEnvironment.createLocal({
      server: { executable: { type: 'existing-path', path }, searchAttributes: Object.values(SEARCH_ATTRIBUTES) },
    }),
  ]);
  const made = await testDeps(database);
  deps = { ...made.deps, temporal: env.client };
  const { box, blobs, db } = deps;
  const bundle = await workflowBundle(
    join(import.meta.dirname, '../../../workflows/validator.ts'),
    join(import.meta.dirname, '../../../.canopy/test-bundles'),
  );
  const deadlines = {
    claimMs: 600_000,
    proofMs: 60_000,
    activationMs: 60_000,
    probeIntervalMs: 60_000,
    silenceGraceMs: 120_000,
  };
  const activities = mergeActivities(
    createChuteActivities({ db, blobs, box, deadlines }),
    createInstanceActivities({ db, box, config: network }),
    createProofSessionActivities({
      profileFor: (gpu, plugin) => (isProvable ? PROFILES['tiny-a'] : profilesOf(table)(gpu, plugin)),
    }),
  );
  const interceptors = { activity: [() => ({ inbound: refusalInterceptor() })] };
  const connection = env.nativeConnection;
  const workers = [
    await Worker.create({
      connection,
      taskQueue: TASK_QUEUES.validator,
      workflowBundle: bundle,
      activities,
      interceptors,
    }),
    await Worker.create({
      connection,
      taskQueue: TASK_QUEUES.gpu,
      activities: createProofVerificationActivities({ blobs }),
      interceptors,
    }),
  ];
  const running = Promise.all(workers.map((worker) => worker.run()));
  const api = await listen(
    createApp({
      program: 'test',
      log: deps.log,
      registry: deps.registry,
      routers: [instanceRoutes(deps), proofRoutes(deps)],
    }),
  );
  url = api.url;
  owner = await insertUser(database.knex);
  closing.push(
    api.close,
    async () => {
      for (const worker of workers) worker.shutdown();
      await running;
    },
    made.close,
    () => env.teardown(),
    () => database.drop(),
  );
}, 60_000);
afterAll(async () => {
  for (const close of closing) await close();
}, 60_000);

type Ask = RequestInit & { token?: string; json?: unknown; duplex?: 'half' };
const ask = async (path: string, init: Ask = {}) => {
  const { token, json, ...rest } = init;
  const response = await fetch(`${url}${path}`, {
    ...rest,
    headers: { ...(token ? { authorization: token } : {}), ...(rest.headers as Record<string, string>) },
    ...(json === undefined ? {} : { body: JSON.stringify(json) }),
  });
  const text = await response.text();
  // oxlint-disable-next-line typescript/no-explicit-any -- wire answers, held against literals
  let body: any = text;
  if (response.headers.get('content-type')?.includes('json')) body = JSON.parse(text);
  return { status: response.status, body };
};
const permission = (miner: Hotkey, chuteId: string, extra = '') =>
  ask(`/instances/launch_config?chute_id=${chuteId}${extra}`, { headers: miner.clientHeaders({ purpose: 'launch' }) });
const keys = generateKeyPairSync('x25519');
const transportPublicKey = keys.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('hex');
let nextPort = 21_000;
const claimBody = (gpu: string, logPort = 8001) => ({
  gpus: [{ uuid: gpu, name: 'NVIDIA H100', memory: 1, clock_rate: 1, processors: 132 }],
  host: '127.0.0.1',
  env: 'e',
  code: 'c',
  port_mappings: [
    { proto: 'tcp', internal_port: 8000, external_port: nextPort++ },
    { proto: 'TCP', internal_port: 8001, external_port: logPort },
  ],
  canopy: {
    transport: 'canopy/1',
    tls_cert: TEST_CERTIFICATE,
    transport_pubkey: transportPublicKey,
    runtime_version: '1',
  },
});
async function permitted(isPublic = true) {
  const miner = await insertMiner(database.knex);
  const chuteId = await insertChute(database.knex, owner.userId, { public: isPublic });
  const gpu = await insertNode(database.knex, miner.address);
  const { status, body } = await permission(miner, chuteId);
  expect([status, body]).toEqual([200, { token: expect.any(String), config_id: expect.any(String) }]);
  const { config_id: configId, token } = body as { config_id: string; token: string };
  const { instance_id: instanceId } = await database.knex('launch_configs').where({ config_id: configId }).first();
  return {
    miner,
    chuteId,
    gpu,
    configId,
    token,
    instanceId: instanceId as string,
    u: `/instances/launch_config/${configId}`,
  };
}

/** Claim, commit, walk; and the openings that the samples ask for. `answers` is the text of every answer so far. */
async function walked(suffix = '', isPublic = true, logPort = 8001) {
  const made = await permitted(isPublic);
  const { gpu, token, u } = made;
  const claim = await ask(`${u}${suffix}`, { method: 'POST', token, json: claimBody(gpu, logPort) });
  expect(claim.status).toBe(200);
  const challenge: PovwChallenge = claim.body.canopy.proof.challenges[0];
  const prover = createProver(challenge);
  const { root } = prover.commit();
  const commit = await ask(`${u}/povw/commit`, { method: 'POST', token, json: { roots: { [gpu]: root } } });
  const walkOf = prover.walk(commit.body.nonce2);
  const walk = await ask(`${u}/povw/walk`, { method: 'POST', token, json: { walks: { [gpu]: walkOf } } });
  const samples = walk.body.samples[gpu];
  const by = { profile: challenge.profile, seed: seedOf(challenge.binding), samples };
  const openings = openingsToBinary(by, prover.open(samples));
  if (!openings) throw new Error('honest openings have a binary form');
  const proofs = [{ gpuUuid: gpu, root, digest: walkOf.digest }];
  const answers = [claim, commit, walk].map(({ body }) => JSON.stringify(body));
  return { ...made, challenge, claim, commit, walk, openings, proofs, answers };
}
const put = (u: string, gpu: string, token: string, body: Uint8Array<ArrayBuffer>) =>
  ask(`${u}/povw/openings/${gpu}`, { method: 'PUT', token, body });
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** The whole conversation; `bend` spoils the openings. */
async function launched(
  suffix = '',
  isPublic = true,
  logPort = 8001,
  bend = (openings: Uint8Array): Uint8Array => openings,
) {
  const made = await walked(suffix, isPublic, logPort);
  const { gpu, token, u } = made;
  const bytes = new Uint8Array(bend(made.openings));
  expect(await put(u, gpu, token, bytes)).toEqual({ status: 200, body: { sha256: sha256(bytes) } });
  const json = { canopy: { openings: { [gpu]: sha256(bytes) } } };
  const verify = await ask(`${u}${suffix}`, { method: 'PUT', token, json });
  return { ...made, verify };
}

const sharedSecretOf = (validatorKey: string): Buffer =>
  diffieHellman({
    privateKey: keys.privateKey,
    publicKey: createPublicKey({
      key: Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), Buffer.from(validatorKey, 'hex')]),
      format: 'der',
      type: 'spki',
    }),
  });

test.each(['', '/graval'])(
  'a launch over %p: token, claim, proof, secret, activation',
  async (suffix) => {
    const { claim, chuteId, commit, configId, gpu, instanceId, miner, proofs, token, u, verify } =
      await launched(suffix);
    expect(JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())).toMatchObject({
      sub: configId,
      iss: 'chutes',
      url: `http://127.0.0.1:8000${u}`,
      chute_id: chuteId,
      egress: false,
      lock_modules: false,
      env_type: 'graval',
      env_key: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
    expect(claim.body).toMatchObject({
      seed: expect.any(Number),
      iterations: expect.any(Number),
      job_id: null,
      symmetric_key: { uuid: gpu, response_plaintext: `secret is ${configId} ${claim.body.seed}` },
      canopy: {
        transport: 'canopy/1',
        validator_pubkey: expect.stringMatching(/^[0-9a-f]{64}$/),
        proof: { plugin: 'simulated', deadline_ms: expect.any(Number) },
      },
    });
    expect(verify.status).toBe(200);
    expect(verify.body).toEqual({
      chute_id: chuteId,
      instance_id: instanceId,
      verified_at: expect.any(String),
      activation_url: `http://127.0.0.1:8000${u}/activate`,
      code: 'print("chute")',
      fs_key: '',
      efs: false,
      secrets: {},
      job_id: null,
      job_method: null,
      job_data: null,
      job_status_url: null,
      canopy: {
        sealed_secret: expect.any(String),
        concurrency: 4,
        filename: 'chute.py',
        ref_str: 'chute:chute',
        trust_level: 'simulated',
      },
    });
    const secret = openSessionSecret({
      sharedSecret: sharedSecretOf(claim.body.canopy.validator_pubkey),
      nonce2: commit.body.nonce2,
      proofs,
      sealed: verify.body.canopy.sealed_secret,
    });
    const row = await database.knex('instances').where({ instance_id: instanceId }).first();
    expect(secret).toBe(deps.box.open(row.session_secret_sealed, `instance:${instanceId}`));
    for (let again = 0; again < 2; again++)
      expect(await ask(`${u}/activate`, { token })).toEqual({ status: 200, body: { ok: true } });
    expect(await database.knex('instances').where({ instance_id: instanceId }).first()).toMatchObject({
      active: true,
      verified: true,
    });

    const removal = { method: 'DELETE', headers: miner.clientHeaders({ purpose: 'instances' }) };
    expect(await ask(`/instances/${chuteId}/${instanceId}`, removal)).toEqual({
      status: 200,
      body: { instance_id: instanceId, deleted: true },
    });
    expect(await database.knex('instance_nodes').where({ node_uuid: gpu })).toEqual([]);
    expect((await ask(`/instances/${chuteId}/${instanceId}`, removal)).status).toBe(404);
    expect((await ask(`${u}/activate`, { token })).status).toBe(404);
  },
  60_000,
);

/** Sends the head at once and the body once the clock has moved; the body was not whole before `bodyAtMs`. */
async function askLate(
  method: string,
  path: string,
  token: string,
  json: unknown,
): Promise<{ bodyAtMs: number; status: number | undefined }> {
  const body = JSON.stringify(json);
  const headers = { authorization: token, expect: '100-continue', 'content-length': Buffer.byteLength(body) };
  const sent = httpRequest(`${url}${path}`, { method, headers });
  sent.flushHeaders();
  await once(sent, 'continue'); // the server has the head
  sent.write(body.slice(0, -1));
  const headAtMs = Date.now();
  while (Date.now() < headAtMs + 20) await new Promise((resolve) => setImmediate(resolve));
  const bodyAtMs = Date.now();
  sent.end(body.slice(-1));
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  answer.resume();
  return { bodyAtMs, status: answer.statusCode };
}

test('a step takes until the last byte of its body: a head sent ahead stops no clock', async () => {
  const { gpu, instanceId, token, u } = await permitted();
  const state = (): Promise<InstanceState> =>
    env.client.workflow.getHandle(instanceWorkflowId(instanceId)).query(instanceStatus);
  const claim = await ask(u, { method: 'POST', token, json: claimBody(gpu) });
  const prover = createProver(claim.body.canopy.proof.challenges[0]);
  const claimedAtMs = (await state()).answeredAtMs ?? NaN;
  const { root } = prover.commit();
  const commit = await askLate('POST', `${u}/povw/commit`, token, { roots: { [gpu]: root } });
  const committed = await state();
  expect([commit.status, committed.fillMs]).toEqual([200, expect.any(Number)]);
  expect(committed.fillMs).toBeGreaterThanOrEqual(commit.bodyAtMs - claimedAtMs);

  const walkOf = prover.walk(committed.session?.nonce2 ?? '');
  const walk = await askLate('POST', `${u}/povw/walk`, token, { walks: { [gpu]: walkOf } });
  const walked = await state();
  expect([walk.status, walked.walkMs]).toEqual([200, expect.any(Number)]);
  expect(walked.walkMs).toBeGreaterThanOrEqual(walk.bodyAtMs - (committed.answeredAtMs ?? NaN));
}, 60_000);

test('a proof with a changed byte is 403, and the instance is gone with its code', async () => {
  const { instanceId, verify } = await launched('', true, 8001, (openings) =>
    openings.map((byte, at) => (at === 3 ? byte ^ 1 : byte)),
  );
  expect(verify.status).toBe(403);
  const audited = async () =>
    (await database.knex('instance_audit').where({ instance_id: instanceId }).first())?.removal_code;
  while ((await audited()) === null) await new Promise((resolve) => setImmediate(resolve));
  expect(await audited()).toBe('proof_wrong');
}, 60_000);

test('a network that proves by povw lets in with that level', async () => {
  plugin = 'povw';
  const { claim, instanceId, verify } = await launched();
  expect(claim.body.canopy.proof.plugin).toBe('povw');
  expect([verify.status, verify.body.canopy.trust_level]).toEqual([200, 'povw']);
  expect(await database.knex('instances').where({ instance_id: instanceId }).first()).toMatchObject({
    trust_level: 'povw',
    proof_summary: { trustLevel: 'povw', gpus: [{ samplesChecked: 8, record: { key: expect.any(String) } }] },
  });
}, 60_000);

test('GPUs of a type that cannot be proven: the claim says what to do, frees them, and no fault is ours', async () => {
  plugin = 'povw';
  isProvable = false;
  const { gpu, instanceId, token, u } = await permitted();
  expect(await ask(u, { method: 'POST', token, json: claimBody(gpu) })).toEqual({
    status: 400,
    body: { detail: expect.stringContaining('npm run calibrate:gpu -- --type h100') },
  });
  const audit = () => database.knex('instance_audit').where({ instance_id: instanceId }).first('removal_code');
  while ((await audit())?.removal_code === null) await new Promise((resolve) => setImmediate(resolve));
  expect(await audit()).toEqual({ removal_code: 'claim_refused' });
  expect(await database.knex('instance_nodes').where({ node_uuid: gpu })).toEqual([]);
}, 60_000);

test.each([{}, { canopy: {} }, { canopy: { openings: {} } }])(
  'where nothing is proven %j is the whole proof, and there are no openings to put',
  async (json) => {
    plugin = 'none';
    const { gpu, token, u } = await permitted();
    const claim = await ask(u, { method: 'POST', token, json: claimBody(gpu) });
    expect([claim.status, claim.body.canopy.proof]).toEqual([200, { plugin: 'none' }]);
    expect((await put(u, gpu, token, new Uint8Array([1]))).status).toBe(400);
    const verify = await ask(u, { method: 'PUT', token, json });
    expect([verify.status, verify.body.canopy.trust_level]).toEqual([200, 'none']);
    expect(await ask(`${u}/activate`, { token })).toEqual({ status: 200, body: { ok: true } });
  },
  60_000,
);

test('the session secret is in no answer before the verdict: it does not exist', async () => {
  const { answers, gpu, instanceId, openings, proofs, token, u, commit, claim } = await walked();
  answers.push(JSON.stringify((await put(u, gpu, token, new Uint8Array(openings))).body));
  const rowNow = () => database.knex('instances').where({ instance_id: instanceId }).first();
  expect(await rowNow()).toMatchObject({ verified: false, session_secret_sealed: null });
  expect((await ask(`${u}/activate`, { token })).status).toBe(403);
  const json = { canopy: { openings: { [gpu]: sha256(openings) } } };
  const { body } = await ask(u, { method: 'PUT', token, json });
  const secret: string = deps.box.open((await rowNow()).session_secret_sealed, `instance:${instanceId}`);
  for (const answer of answers) {
    expect(answer).not.toContain(secret);
    expect(answer).not.toContain('sealed');
  }
  // and once it is there, sealed: not in the clear either, and closed to whoever has another proof
  expect(JSON.stringify(body)).not.toContain(secret);
  const open = (over: object) =>
    openSessionSecret({
      sharedSecret: sharedSecretOf(claim.body.canopy.validator_pubkey),
      nonce2: commit.body.nonce2,
      proofs,
      sealed: body.canopy.sealed_secret,
      ...over,
    });
  expect(open({})).toBe(secret);
  expect(() => open({ proofs: [{ gpuUuid: gpu, root: '0'.repeat(64), digest: proofs[0]?.digest ?? '' }] })).toThrow();
  expect(() => open({ nonce2: '0'.repeat(64) })).toThrow();
}, 60_000);

test('openings come one GPU at a time, after the walk, of GPUs of the launch, each one content and no more', async () => {
  const other = 'f'.repeat(32);
  const { gpu, token, u } = await permitted();
  const bytes = new Uint8Array([1, 2, 3]);
  expect((await ask(`${u}/povw/openings/${gpu}`, { method: 'PUT', body: bytes })).status).toBe(401);
  const notAwaited = { status: 400, body: { detail: 'no openings are awaited' } };
  expect(await put(u, gpu, token, bytes)).toEqual(notAwaited);
  await ask(u, { method: 'POST', token, json: claimBody(gpu) });
  expect(await put(u, gpu, token, bytes)).toEqual(notAwaited);

  const launch = await walked();
  const put1 = (body: Uint8Array<ArrayBuffer>, uuid = launch.gpu, by = launch.token) => put(launch.u, uuid, by, body);
  expect((await put1(bytes, launch.gpu, token)).status).toBe(401); // another launch's token
  expect((await put1(bytes, other)).status).toBe(404);
  expect((await put1(bytes, launch.gpu.toUpperCase())).status).toBe(422);
  expect((await put1(new Uint8Array())).status).toBe(400);
  const atMost = openingsBytesAtMost(launch.challenge.profile);
  expect(launch.openings.length).toBeLessThanOrEqual(atMost);
  expect((await put1(new Uint8Array(atMost + 1))).status).toBe(413);

  const finish = (openings?: Record<string, string>) =>
    ask(launch.u, { method: 'PUT', token: launch.token, json: openings ? { canopy: { openings } } : {} });
  const missing = {
    status: 400,
    body: { detail: expect.stringContaining(`openings of GPU ${launch.gpu} are missing`) },
  };
  const hash = sha256(launch.openings);
  expect(await finish()).toEqual(missing);
  expect(await finish({ [launch.gpu]: hash })).toEqual(missing);
  expect(await put1(new Uint8Array(launch.openings))).toEqual({ status: 200, body: { sha256: hash } });
  expect(await put1(new Uint8Array(launch.openings))).toEqual({ status: 200, body: { sha256: hash } });
  expect((await put1(bytes)).status).toBe(409);
  expect(await finish({ [launch.gpu]: sha256(bytes) })).toEqual(missing);
  expect((await finish({ [launch.gpu]: hash, [other]: hash })).status).toBe(400);
  expect((await finish({ [launch.gpu]: 'x' })).status).toBe(422);

  // announced, but the put was cut off before its bytes were kept
  const key = `proofs/${launch.configId}/${hash}`;
  await deps.blobs.delete(key);
  expect(await finish({ [launch.gpu]: hash })).toEqual(missing);
  await put1(new Uint8Array(launch.openings));
  const first = await finish({ [launch.gpu]: hash });
  expect(first.status).toBe(200);
  const again = await finish({ [launch.gpu]: hash }); // its answer was lost on the way
  expect([again.status, again.body.verified_at]).toEqual([200, first.body.verified_at]);
}, 60_000);

test('one GPU has one body under way', async () => {
  const { gpu, token, u, openings } = await walked();
  const uploads = [1, 2].map(() => halfSent(`${u}/povw/openings/${gpu}`, token, openings));
  const refused = await Promise.race(uploads.map(({ answer }) => answer)); // neither has its whole body: only a refusal comes now
  expect(refused.status).toBe(429);
  for (const { finish } of uploads) finish();
  const statuses = (await Promise.all(uploads.map(({ answer }) => answer))).map(({ status }) => status);
  expect(statuses).toEqual(expect.arrayContaining([200, 429]));
}, 60_000);

test.each([
  ['one miner has four uploads under way', 4, true],
  ['all miners together have eight', 8, false],
])(
  '%s: the next is told to try again, and is heard when one has ended',
  async (_, places, ofOneMiner) => {
    const launches: Awaited<ReturnType<typeof walked>>[] = [];
    while (launches.length <= places) launches.push(await walked());
    if (ofOneMiner) {
      const ofOne = launches.map(({ configId }) => configId);
      await database.knex('launch_configs').whereIn('config_id', ofOne).update({ miner_hotkey: 'one' });
    }
    const uploads = launches.map(({ gpu, token, u, openings }) =>
      halfSent(`${u}/povw/openings/${gpu}`, token, openings),
    );
    const refused = await Promise.race(uploads.map(({ answer }) => answer)); // none has its whole body: only a refusal comes now
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '5']);
    for (const { finish } of uploads) finish();
    const statuses = (await Promise.all(uploads.map(({ answer }) => answer))).map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(places);
    const again = launches[statuses.indexOf(429)];
    if (!again) throw new Error('one was refused');
    expect((await put(again.u, again.gpu, again.token, new Uint8Array(again.openings))).status).toBe(200);
  },
  60_000,
);

/** An upload whose second half waits for `finish`. */
function halfSent(path: string, token: string, bytes: Uint8Array): { answer: Promise<Response>; finish: () => void } {
  let finish = (): void => {};
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      controller.enqueue(bytes.subarray(0, 10));
      await new Promise<void>((resolve) => (finish = resolve));
      controller.enqueue(bytes.subarray(10));
      controller.close();
    },
  });
  const init: Ask = { method: 'PUT', headers: { authorization: token }, body, duplex: 'half' };
  return { answer: fetch(`${url}${path}`, init), finish: () => finish() };
}

test('openings that are stored are neither announced nor stored again, and a finished launch takes no others', async () => {
  const { configId, gpu, instanceId, token, u, openings } = await walked();
  const bytes = new Uint8Array(openings);
  const put1 = () => put(u, gpu, token, bytes);
  const stored = jest.spyOn(deps.blobs, 'put');
  try {
    const puts = (): number => stored.mock.calls.filter(([key]) => key.startsWith(`proofs/${configId}/`)).length;
    const updates = async (): Promise<number> => {
      const { events } = await env.client.workflow.getHandle(instanceWorkflowId(instanceId)).fetchHistory();
      return (events ?? []).filter((event) => event.workflowExecutionUpdateAcceptedEventAttributes).length;
    };
    const first = await put1();
    const before = await updates();
    expect([first.status, puts()]).toEqual([200, 1]);
    expect(await put1()).toEqual(first);
    expect((await put(u, gpu, token, new Uint8Array([1]))).status).toBe(409);
    expect([await updates(), puts()]).toEqual([before, 1]);
    const json = { canopy: { openings: { [gpu]: sha256(bytes) } } };
    expect((await ask(u, { method: 'PUT', token, json })).status).toBe(200);
    const finished = await updates();
    expect(await put1()).toEqual(first);
    expect((await put(u, gpu, token, new Uint8Array([1]))).status).toBe(400);
    expect([await updates(), puts()]).toEqual([finished, 1]);
  } finally {
    stored.mockRestore();
  }
}, 60_000);

test('anybody reads the recorded proof of an instance, accepted or refused, and what its S is made of', async () => {
  const honest = await launched();
  const wrong = await launched('', true, 8001, (openings) => openings.map((byte, at) => (at === 3 ? byte ^ 1 : byte)));
  while (await database.knex('instances').where({ instance_id: wrong.instanceId }).first())
    await new Promise((resolve) => setImmediate(resolve)); // its removal leaves the audit row
  for (const [launch, isAccepted] of [
    [honest, true],
    [wrong, false],
  ] as const) {
    const path = `/instances/${launch.instanceId}/proofs/${launch.gpu}`;
    const { body } = await ask(`${path}?format=binding`);
    const { root = '', digest = '' } = launch.proofs[0] ?? {};
    expect(body).toMatchObject({
      version: 'povw/2',
      gpu_uuid: launch.gpu,
      verified: isAccepted,
      reason: isAccepted ? null : expect.stringMatching(/^[a-z_]+$/),
      binding: launch.challenge.binding,
      seed: Buffer.from(seedOf(launch.challenge.binding)).toString('hex'),
      file: { sha256: expect.any(String), size_bytes: expect.any(Number) },
    });
    const answer = await fetch(`${url}${path}`);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([200, 'application/octet-stream']);
    expect(answer.headers.get('content-disposition')).toContain(`attachment; filename=${launch.gpu}-`);
    const file = Buffer.from(await answer.arrayBuffer());
    expect([sha256(file), file.length]).toEqual([body.file.sha256, body.file.size_bytes]);
    for (const part of [body.seed as string, root, digest]) expect(file.includes(Buffer.from(part, 'hex'))).toBe(true);
  }
  const { knex } = database;
  const row = await knex('instances').where({ instance_id: honest.instanceId }).first();
  await knex('nodes')
    .where({ uuid: honest.gpu })
    .update({ proof_summary: JSON.stringify(row.proof_summary) });
  expect((await ask(`/nodes/${honest.gpu}/proof?format=binding`)).body.binding).toEqual(honest.challenge.binding);
  expect((await ask(`/nodes/${honest.gpu}/proof`)).status).toBe(200);

  const none = { status: 404, body: { detail: expect.stringContaining('no recorded proof of GPU') } };
  expect(await ask(`/nodes/${wrong.gpu}/proof`)).toEqual(none);
  expect(await ask(`/nodes/${'0'.repeat(32)}/proof`)).toEqual(none);
  expect(await ask(`/instances/${honest.instanceId}/proofs/${wrong.gpu}`)).toEqual(none);
  expect(await ask(`/instances/${randomUUID()}/proofs/${honest.gpu}`)).toEqual(none);
  expect((await ask(`/nodes/${honest.gpu}/proof?format=xml`)).status).toBe(422);
  await deps.blobs.delete(row.proof_summary.gpus[0].record.key);
  expect(await ask(`/nodes/${honest.gpu}/proof`)).toEqual({
    status: 404,
    body: { detail: expect.stringContaining('no longer kept') },
  });
}, 60_000);

test('what is not a permission is refused with the spec’s status', async () => {
  const miner = await insertMiner(database.knex);
  const banned = await insertMiner(database.knex, { blacklistReason: 'lied' });
  const chuteId = await insertChute(database.knex, owner.userId);
  expect((await permission(miner, randomUUID())).status).toBe(404);
  expect((await permission(banned, chuteId)).status).toBe(403);
  expect(await permission(miner, chuteId, '&job_id=1')).toEqual({
    status: 404,
    body: { detail: 'jobs are not offered' },
  });
  expect((await permission(miner, 'x')).status).toBe(422);
  expect((await ask(`/instances/launch_config?chute_id=${chuteId}`)).status).toBe(401);
  const full = await insertChute(database.knex, owner.userId, { targetCount: 0 });
  expect((await permission(miner, full)).status).toBe(423);
});

test('a claim: without a token 401, malformed 422, of the reference’s envelope a plain 400, another one 401, out of order 400 and 403', async () => {
  const { gpu, token, u } = await permitted();
  const body = claimBody(gpu);
  const claim = (json: unknown, withToken = true) =>
    ask(u, { method: 'POST', json, ...(withToken ? { token: `Bearer ${token}` } : {}) });
  expect((await claim(body, false)).status).toBe(401);
  expect((await ask(`/instances/launch_config/${randomUUID()}`, { method: 'POST', token, json: body })).status).toBe(
    401,
  );
  expect((await claim({ ...body, gpus: [{ uuid: 'GPU-1' }] })).status).toBe(422);
  expect((await claim({ ...body, gpus: Array(17).fill(body.gpus[0]) })).status).toBe(422);
  expect(await claim({ ...body, canopy: undefined })).toEqual({
    status: 400,
    body: { detail: expect.stringContaining('not offered yet') },
  });
  expect((await claim({ ...body, canopy: { ...body.canopy, tls_cert: 'x' } })).status).toBe(400);
  expect(
    (await claim({ ...body, port_mappings: [{ proto: 'tcp', internal_port: 9, external_port: 99 }] })).status,
  ).toBe(400);
  expect((await ask(`${u}/activate`, { token })).status).toBe(403);
  expect((await ask(u, { method: 'PUT', token, json: {} })).status).toBe(400);
  const nonce = await ask(`${u}/nonce`, { token });
  expect(nonce.body).toMatch(/^[0-9a-f]{32}$/);
  const first = await claim(body);
  expect(first.status).toBe(200);
  expect((await claim(body)).body).toEqual(first.body); // the same request again, its answer lost on the way
  expect((await claim({ ...body, host: 'elsewhere' })).status).toBe(401);
}, 60_000);

test('a claim with GPUs that do not fit burns the token', async () => {
  const { gpu, token, u } = await permitted();
  await database.knex('nodes').where({ uuid: gpu }).update({ verified_at: null, status: 'announced' });
  expect((await ask(u, { method: 'POST', token, json: claimBody(gpu) })).status).toBe(400);
  await database.knex('nodes').where({ uuid: gpu }).update({ verified_at: new Date(), status: 'verified' });
  expect((await ask(u, { method: 'POST', token, json: claimBody(gpu) })).status).toBe(401);
});

test('logs of a private chute reach its owner as they come, signed for the instance, and nobody else', async () => {
  const heard: { url: string | undefined; headers: Record<string, unknown> }[] = [];
  const logs = createServer((req, res) => {
    heard.push({ url: req.url, headers: req.headers });
    res.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: {"log": "hello"}\n\n');
  }).listen(0, '127.0.0.1');
  await once(logs, 'listening');
  const { instanceId, miner } = await launched('', false, (logs.address() as AddressInfo).port);
  const read = (key: Hotkey, backfill = '5') =>
    ask(`/instances/${instanceId}/logs?backfill=${backfill}`, { headers: key.clientHeaders({ purpose: 'logs' }) });
  expect(await read(owner.hotkey)).toEqual({ status: 200, body: 'data: {"log": "hello"}\n\n' });
  expect(heard).toEqual([
    {
      url: '/logs/stream?backfill=5',
      headers: expect.objectContaining({ 'x-chutes-miner': miner.address, 'x-chutes-validator': deps.hotkey.address }),
    },
  ]);
  expect((await read((await insertUser(database.knex)).hotkey)).status).toBe(403);
  expect((await read(owner.hotkey, '10001')).status).toBe(400);
  logs.closeAllConnections();
  logs.close();
  expect((await read(owner.hotkey)).status).toBe(503);
}, 60_000);

test('the IP token is one per address and salt', async () => {
  const token = async (salt: string) => (await ask(`/instances/token_check${salt}`)).body.token as string;
  expect(await token('')).toBe(await token(''));
  expect(await token('?salt=a')).not.toBe(await token('?salt=b'));
});
