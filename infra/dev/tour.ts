import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import OpenAI, { InternalServerError, NotFoundError } from 'openai';
import { packExample } from '../../examples/pack.ts';
import { loadHotkey } from '../../activities/clients/hotkey.ts';
import { chuteWorkflowId, imageWorkflowId, serverWorkflowId } from '../../workflows/ids.ts';
import { ApiClient, ApiError, linesOf } from './api-client.ts';
import type { LocalNetwork } from './network.ts';
import { writePrivate } from './network-state.ts';
import type { Reporter } from './reporter.ts';

export interface TourResult {
  apiKey: string;
  model: string;
  chuteId: string;
}
interface Developer {
  username: string;
  userId: string;
  apiKey: string;
  apiKeyId: string;
}

const EXAMPLE = 'text-generator';
const USERNAME = 'canopydev';
const SERVER = 'local';

/** The tour: from a signed registration to a metered, exported request, on real input. Each step throws when it does not hold. */
export async function runTour(network: LocalNetwork, reporter: Reporter): Promise<TourResult> {
  const { state, urls } = network;
  const developerKey = await loadHotkey(state.seeds.developer);
  const api = new ApiClient(urls.public, developerKey);

  const developer = await reporter.stage('user', 'register a developer, get an API key', () =>
    ensureDeveloper(network, api),
  );
  reporter.line(`user ${developer.username} ${developer.userId}, hotkey ${developerKey.address}`);

  await reporter.stage('server', 'add a server with two GPUs, challenge and verify them', (note) =>
    addServer(network, reporter, note),
  );

  const example = await packExample(join(import.meta.dirname, '../../examples', EXAMPLE));
  const imageId = await reporter.stage(
    'image',
    `build ${developer.username}/${example.image.name}:${example.image.tag}`,
    (note) => buildImage({ api, developer, example, reporter, note }),
  );
  reporter.line(`image ${imageId}, workflow ${imageWorkflowId(imageId)}`);

  const chuteId = await reporter.stage('chute', 'deploy a chute: announce, claim, launch, prove, activate', (note) =>
    deployChute({ api, network, example, imageId, reporter, note }),
  );

  const model = example.chute.name;
  const openai = new OpenAI({ baseURL: `${urls.public}/v1`, apiKey: developer.apiKey, maxRetries: 0 });
  await reporter.stage('stream', 'stream a chat completion with the openai client', (note) =>
    whileStarting(note, () => streamChat(openai, model, reporter)),
  );
  await reporter.stage('errors', 'ask for a model that is not there', () => expectUnknownModel(openai, reporter));
  await reporter.stage('complete', 'a completion without streaming', () => completeOnce(openai, model, reporter));
  await reporter.stage('usage', 'read the usage, and the hour in the CSV export', (note) =>
    showUsage(urls.public, developer.apiKey, chuteId, reporter, note),
  );
  return { apiKey: developer.apiKey, model, chuteId };
}

async function ensureDeveloper(network: LocalNetwork, api: ApiClient): Promise<Developer> {
  const file = join(network.dataDir, 'developer.json');
  const known = await readFile(file, 'utf8').then(
    (text) => JSON.parse(text) as Developer,
    () => null,
  );
  if (known && (await api.get<{ api_key_id: string }>(`/api_keys/${known.apiKeyId}`, 'api_keys').catch(nullOn404)))
    return known;
  const coldkey = await loadHotkey(network.state.seeds.developerColdkey);
  const user =
    (await api.get<{ user_id: string; username: string }>('/users/me', 'me').catch(nullOn401)) ??
    (await api.post<{ user_id: string; username: string }>('/users/register?token=replaceme', {
      username: USERNAME,
      coldkey: coldkey.address,
    }));
  const key = await api.post<{ api_key_id: string; secret_key: string }>('/api_keys/', {
    name: `tour ${new Date().toISOString().slice(0, 19).replaceAll(':', '.')}`,
    admin: true,
  });
  const developer = { username: user.username, userId: user.user_id, apiKey: key.secret_key, apiKeyId: key.api_key_id };
  await writePrivate(file, JSON.stringify(developer));
  return developer;
}

interface ServerRow {
  server_id: string;
  name: string;
  status: string;
  gpus: { gpu_id: string; verified: boolean }[];
}

async function addServer(network: LocalNetwork, reporter: Reporter, note: (message: string) => void): Promise<void> {
  const minerKey = await loadHotkey(network.state.seeds.miner);
  const validator = await loadHotkey(network.state.seeds.validator);
  const miner = new ApiClient(network.urls.minerApi, minerKey, 'management');
  const find = async () =>
    (await miner.get<ServerRow[]>('/servers/', 'management')).find((server) => server.name === SERVER);
  const isVerified = (server: ServerRow | undefined): server is ServerRow =>
    server !== undefined && server.gpus.length > 0 && server.gpus.every((gpu) => gpu.verified);
  if (!isVerified(await find())) {
    const answer = await miner.request('POST', '/servers/', {
      json: {
        name: SERVER,
        validator: validator.address,
        hourly_cost: 0.5,
        gpu_short_ref: network.gpuShortRef,
        agent_api: network.urls.agent,
      },
    });
    let last = '';
    for await (const line of linesOf(answer)) {
      if (!line.startsWith('data: ')) continue;
      const { message } = JSON.parse(line.slice(6)) as { message: string };
      if (message !== last) note(message);
      last = message;
    }
    if (!last.includes('completed server bootstrapping')) throw new Error(`the server was not added: ${last}`);
  }
  const server = await find();
  if (!isVerified(server)) throw new Error('the server is there but its GPUs are not verified');
  reporter.line(`server ${server.name} ${server.server_id}, workflow ${serverWorkflowId(server.server_id)}`);
  const asMiner = new ApiClient(network.urls.public, minerKey);
  const agent = new ApiClient(network.urls.agent, minerKey, 'management');
  const { provers } = await agent.get<{ provers: Record<string, string> }>('/status', 'management');
  const nodes = await asMiner.request('GET', '/miner/nodes/', { purpose: 'miner' });
  for await (const line of linesOf(nodes)) {
    if (!line.startsWith('data: {')) continue;
    const node = JSON.parse(line.slice(6)) as Record<string, unknown>;
    reporter.line(
      `GPU ${String(node.uuid)} ${String(node.gpu_identifier)}: ${describeProof(node)}, prover: ${provers[String(node.uuid)]}`,
    );
  }
}

/** One line of what was proven of a GPU: trust level, bytes, samples, times. */
function describeProof(node: Record<string, unknown>): string {
  const level = String(node.trust_level);
  const summary = node.proof_summary as {
    fillMs?: number;
    walkMs?: number;
    gpus?: { gpuUuid: string; bytesFilled: number; samplesChecked: number }[];
  } | null;
  const own = summary?.gpus?.find((gpu) => gpu.gpuUuid === node.uuid);
  if (!own) return level === 'simulated' ? '*simulated*' : level;
  const proof = `${own.bytesFilled.toLocaleString('en')} bytes filled in ${Math.round(summary?.fillMs ?? 0)} ms, walk ${Math.round(summary?.walkMs ?? 0)} ms, ${own.samplesChecked} samples checked`;
  return `${level === 'simulated' ? '*simulated*' : level}, ${proof}`;
}

type Example = Awaited<ReturnType<typeof packExample>>;
interface ImageRow {
  image_id: string;
  status: string;
}

async function buildImage(context: {
  api: ApiClient;
  developer: Developer;
  example: Example;
  reporter: Reporter;
  note: (message: string) => void;
}): Promise<string> {
  const { api, developer, example, reporter, note } = context;
  const { name, tag, readme } = example.image;
  const reference = `${developer.username}/${name}:${tag}`;
  const existing = await api.get<ImageRow>(`/images/${reference}`, 'images').catch(nullOn404);
  if (existing?.status === 'built and pushed') {
    note('already built');
    return existing.image_id;
  }
  if (existing?.status.startsWith('error:')) await api.delete(`/images/${existing.image_id}`, 'images');
  let imageId = existing?.image_id;
  if (!imageId || existing?.status.startsWith('error:')) {
    const form = new FormData();
    for (const [field, value] of Object.entries({
      wait: 'False',
      username: developer.username,
      name,
      tag,
      readme,
      logo_id: '__none__',
      dockerfile: example.dockerfile,
      image: 'none',
      public: 'True',
    }))
      form.append(field, value);
    form.append(
      'build_context',
      new Blob([new Uint8Array(example.contextZip)], { type: 'application/zip' }),
      'chute.zip',
    );
    const encoded = new Response(form);
    const answer = await api.request('POST', '/images/', {
      bytes: new Uint8Array(await encoded.arrayBuffer()),
      contentType: encoded.headers.get('content-type') ?? '',
    });
    imageId = ((await answer.json()) as ImageRow).image_id;
  }
  await followBuildLog(api, imageId, reporter, note);
  const { status } = await api.get<ImageRow>(`/images/${imageId}`, 'images');
  if (status !== 'built and pushed') throw new Error(`image ${imageId}: ${status}`);
  return imageId;
}

/** Reads the build log as the SDK's CLI does: resumes by offset, ends at DONE or at a finished (text/plain) log. */
async function followBuildLog(
  api: ApiClient,
  imageId: string,
  reporter: Reporter,
  note: (message: string) => void,
): Promise<void> {
  let offset = '';
  for (;;) {
    const answer = await api.request('GET', `/images/${imageId}/logs${offset ? `?offset=${offset}` : ''}`, {
      purpose: 'images',
    });
    if (answer.headers.get('content-type')?.startsWith('text/plain')) return void (await answer.arrayBuffer());
    for await (const line of linesOf(answer)) {
      if (line.startsWith('DONE')) return;
      if (!line.startsWith('data: ')) continue;
      const entry = JSON.parse(line.slice(6)) as { log: { log: string } | string; offset: string };
      offset = entry.offset;
      const text = (typeof entry.log === 'string' ? entry.log : entry.log.log).trimEnd();
      if (text) reporter.line(text);
      note(text.slice(0, 60));
    }
  }
}

interface ChuteRow {
  chute_id: string;
  hot: boolean;
  version: string;
  instances: { instance_id: string; active: boolean; verified: boolean }[];
}

async function deployChute(context: {
  api: ApiClient;
  network: LocalNetwork;
  example: Example;
  imageId: string;
  reporter: Reporter;
  note: (message: string) => void;
}): Promise<string> {
  const { api, example, imageId, reporter, note } = context;
  const body = { ...example.chute, image: imageId };
  const chuteId = await api.post<ChuteRow>('/chutes/?accept_fee=true', body).then(
    (chute) => chute.chute_id,
    async (err: unknown) => {
      if (!(err instanceof ApiError) || err.status !== 409) throw err;
      note('already deployed');
      return (await api.get<ChuteRow>(`/chutes/${USERNAME}/${example.chute.name}`, 'chutes')).chute_id;
    },
  );
  reporter.line(`chute ${chuteId}, workflow ${chuteWorkflowId(chuteId)}`);
  const deadline = Date.now() + 120_000;
  let seen = '';
  for (;;) {
    const chute = await api.get<ChuteRow>(`/chutes/${chuteId}`, 'chutes');
    const now =
      chute.instances
        .map((each) => `${each.instance_id} ${each.active ? 'active' : each.verified ? 'proven' : 'claimed'}`)
        .join(', ') || 'announced';
    if (now !== seen) note((seen = now));
    if (chute.hot) {
      for (const instance of chute.instances.filter((each) => each.active))
        reporter.line(`instance ${instance.instance_id} is active`);
      return chuteId;
    }
    if (Date.now() > deadline) throw new Error(`chute ${chuteId} has no active instance after 120 s: ${now}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** After a power cut the instance that the rows name is gone: 5xx until its replacement serves, as any client would see. */
async function whileStarting(note: (message: string) => void, call: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    try {
      return await call();
    } catch (err) {
      if (!(err instanceof InternalServerError) || Date.now() > deadline) throw err;
      note(err.message);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

async function streamChat(openai: OpenAI, model: string, reporter: Reporter): Promise<void> {
  const stream = await openai.chat.completions.create({
    model,
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: 60,
    temperature: 0.7,
    messages: [{ role: 'user', content: 'Canopy is a control plane' }],
  });
  let chunks = 0;
  let finish: string | null = null;
  let usage: OpenAI.CompletionUsage | null | undefined = null;
  for await (const chunk of stream) {
    const choice = chunk.choices[0];
    if (choice?.delta.content) {
      chunks++;
      reporter.text(choice.delta.content);
    }
    finish = choice?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  reporter.text('\n');
  if (chunks < 2 || !finish || !usage?.completion_tokens)
    throw new Error(
      `the stream ended with ${chunks} chunks, finish reason ${String(finish)}, usage ${JSON.stringify(usage)}`,
    );
  reporter.line(
    `${usage.prompt_tokens} prompt + ${usage.completion_tokens} completion tokens, finish reason ${finish}`,
  );
}

async function expectUnknownModel(openai: OpenAI, reporter: Reporter): Promise<void> {
  const err = await openai.chat.completions
    .create({ model: 'no/such-model', messages: [{ role: 'user', content: 'hello' }] })
    .then(
      () => null,
      (reason: unknown) => reason,
    );
  if (!(err instanceof NotFoundError)) throw new Error(`expected a 404, got ${String(err)}`);
  reporter.line(err.message);
}

async function completeOnce(openai: OpenAI, model: string, reporter: Reporter): Promise<void> {
  const answer = await openai.chat.completions.create({
    model,
    max_tokens: 24,
    messages: [{ role: 'user', content: 'The validator' }],
  });
  const text = answer.choices[0]?.message.content;
  if (!text || !answer.usage?.completion_tokens)
    throw new Error(`an answer without text or usage: ${JSON.stringify(answer)}`);
  reporter.line(`${text.replaceAll('\n', ' ')} (${answer.usage.completion_tokens} tokens)`);
}

async function showUsage(
  base: string,
  apiKey: string,
  chuteId: string,
  reporter: Reporter,
  note: (message: string) => void,
): Promise<void> {
  const headers = { authorization: `Bearer ${apiKey}` };
  const deadline = Date.now() + 15_000;
  for (;;) {
    const usage = (await (await fetch(`${base}/users/me/usage?per_chute=true`, { headers })).json()) as {
      items?: { bucket: string; amount: number; count: number; chute_id: string }[];
    };
    const own = usage.items?.find((item) => item.chute_id === chuteId);
    if (own && own.count >= 2) {
      reporter.line(`usage of the hour ${own.bucket}: ${own.count} requests, ${own.amount} USD`);
      break;
    }
    if (Date.now() > deadline) throw new Error(`the usage does not show the requests: ${JSON.stringify(usage)}`);
    note('waiting for the meter');
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const end = new Date(Date.now() + 3_600_000); // an export is named after the hour in which its window ends
  const path = `/invocations/exports/${end.getUTCFullYear()}/${end.getUTCMonth() + 1}/${end.getUTCDate()}/${String(end.getUTCHours()).padStart(2, '0')}.csv?partial=true`;
  const answer = await fetch(base + path);
  const rows = (await answer.text()).split('\r\n').filter((row) => row.includes(chuteId));
  if (!answer.ok || rows.length < 2)
    throw new Error(`${path} answered ${answer.status} with ${rows.length} rows of the chute`);
  reporter.line(`GET ${path}: ${rows.length} rows of this chute, the last: ${(rows.at(-1) ?? '').slice(0, 100)}…`);
}

const nullOn = (status: number) => (err: unknown) => {
  if (err instanceof ApiError && err.status === status) return null;
  throw err;
};
const nullOn404 = nullOn(404);
const nullOn401 = nullOn(401);
