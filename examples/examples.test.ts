import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import getPort from 'get-port';
import OpenAI from 'openai';
import { startService, answers, type Service } from '../infra/dev/services/child.ts';
import { packExample } from './pack.ts';

const HERE = import.meta.dirname;
const CORPUS =
  'The validator asks the miner. The miner runs the chute. The chute answers the gateway, and the gateway answers the user.\n'.repeat(
    3,
  );

describe('text-generator', () => {
  const dir = mkdtempSync(join(tmpdir(), 'canopy-generator-'));
  let service: Service;
  let client: OpenAI;
  let base: string;
  beforeAll(async () => {
    for (const file of ['train.py', 'chute.py']) cpSync(join(HERE, 'text-generator', file), join(dir, file));
    mkdirSync(join(dir, 'corpus'));
    writeFileSync(join(dir, 'corpus', 'a.md'), CORPUS);
    execFileSync('python3', ['train.py'], { cwd: dir });
    const port = await getPort({ host: '127.0.0.1' });
    base = `http://127.0.0.1:${port}`;
    service = await startService({
      name: 'text-generator',
      command: 'python3',
      args: ['chute.py'],
      cwd: dir,
      logFile: join(dir, 'log'),
      env: { PATH: process.env.PATH, PORT: String(port), HOST: '127.0.0.1', CHUTE_TOKEN_PAUSE_MS: '0' },
      isReady: () => answers(`${base}/health`),
    });
    client = new OpenAI({ apiKey: 'none', baseURL: `${base}/v1`, maxRetries: 0 });
  });
  afterAll(async () => {
    await service.stop();
    rmSync(dir, { recursive: true, force: true });
  });
  const model = 'canopy/text-generator';
  const messages = [{ role: 'user' as const, content: 'The validator asks' }];

  test('the same corpus and seed give the same model', () => {
    const first = readFileSync(join(dir, 'model.json'));
    execFileSync('python3', ['train.py', '--model', 'again.json'], { cwd: dir });
    expect(readFileSync(join(dir, 'again.json')).equals(first)).toBe(true);
  });
  test('a completion has a finish reason and counts that hold', async () => {
    const done = await client.chat.completions.create({ model, messages, max_tokens: 12, seed: 1 });
    expect(done.model).toBe(model);
    expect(done.choices[0]).toMatchObject({
      finish_reason: 'length',
      message: { role: 'assistant', content: expect.any(String) },
    });
    expect(done.usage).toEqual({ prompt_tokens: 4, completion_tokens: 12, total_tokens: 16 });
  });
  test('the same seed writes the same text, temperature 0 the likeliest', async () => {
    const write = async (options: object) =>
      (await client.completions.create({ model, prompt: ' The miner', max_tokens: 4, ...options })).choices[0]?.text;
    expect(await write({ seed: 5 })).toBe(await write({ seed: 5 }));
    expect(await write({ temperature: 0 })).toBe(' runs the chute.');
  });
  test('a stop word ends the text before it, also when it spans tokens', async () => {
    const done = await client.completions.create({
      model,
      prompt: ' The miner',
      max_tokens: 50,
      temperature: 0,
      stop: ['e chute'],
    });
    expect(done.choices[0]).toMatchObject({ text: ' runs th', finish_reason: 'stop' });
  });
  test('a stream carries the same text in pieces, then the reason, then the usage', async () => {
    const whole = await client.chat.completions.create({ model, messages, max_tokens: 20, seed: 3 });
    const stream = await client.chat.completions.create({
      model,
      messages,
      max_tokens: 20,
      seed: 3,
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks: OpenAI.ChatCompletionChunk[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    expect(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(
      whole.choices[0]?.message.content,
    );
    expect(
      chunks.filter((chunk) => chunk.choices[0]?.finish_reason).map((chunk) => chunk.choices[0]?.finish_reason),
    ).toEqual(['length']);
    expect(chunks.at(-1)).toMatchObject({
      choices: [],
      usage: { prompt_tokens: 4, completion_tokens: 20, total_tokens: 24 },
    });
  });
  test('models and embeddings', async () => {
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual([model]);
    const { data } = await client.embeddings.create({
      model,
      input: ['the miner runs', 'the miner ran', 'zebra quilt'],
    });
    const dot = (a: number, b: number) =>
      (data[a]?.embedding ?? []).reduce((sum, value, at) => sum + value * (data[b]?.embedding[at] ?? 0), 0);
    expect(dot(0, 0)).toBeCloseTo(1, 4);
    expect(dot(0, 1)).toBeGreaterThan(dot(0, 2));
  });
  test.each([
    [{ model: 'gpt-4', messages }, 404, 'model_not_found'],
    [{ model, messages: [] }, 400, 'invalid_value'],
    [{ model, messages, temperature: 3 }, 400, 'invalid_value'],
    [{ model, messages, max_tokens: 9000 }, 400, 'invalid_value'],
    [{ model, messages, max_tokens: 8190 }, 400, 'context_length_exceeded'],
  ])('%j is refused as OpenAI would: %i %s', async (body, status, code) => {
    await expect(client.chat.completions.create(body)).rejects.toMatchObject({ status, code });
  });
});

describe('packing', () => {
  test.each(['text-generator', 'http-server'])(
    '%s packs to the same bytes twice, and its definition is whole',
    async (name) => {
      const [first, second] = [await packExample(join(HERE, name)), await packExample(join(HERE, name))];
      expect(first.contextZip.equals(second.contextZip)).toBe(true);
      expect(first.chute.image).toBe(`${name}:${first.image.tag}`);
      expect(first.chute.code).toContain('PORT');
      expect(first.chute.name).toBe(`canopy/${name}`);
    },
  );
  test("the generator's model name is its chute's name, and its revision its corpus", async () => {
    const { chute } = await packExample(join(HERE, 'text-generator'));
    expect(chute.code).toContain(`"CHUTE_NAME", "${chute.name}"`);
    expect(chute.revision).toMatch(/^[0-9a-f]{40}$/);
  });
});

test('http-server answers its cords', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'canopy-http-'));
  const port = await getPort({ host: '127.0.0.1' });
  const base = `http://127.0.0.1:${port}`;
  const service = await startService({
    name: 'http-server',
    command: 'python3',
    args: [join(HERE, 'http-server', 'chute.py')],
    logFile: join(dir, 'log'),
    env: { PATH: process.env.PATH, PORT: String(port) },
    isReady: () => answers(`${base}/health`),
  });
  try {
    const digest = await fetch(`${base}/digest`, { method: 'POST', body: 'abc' });
    expect(await digest.json()).toEqual({
      sha256: 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
      size_bytes: 3,
    });
    const badge = await fetch(`${base}/badge?label=%3Cb%3E&value=1`);
    expect(badge.headers.get('content-type')).toBe('image/svg+xml');
    expect(await badge.text()).toContain('&lt;b&gt;');
  } finally {
    await service.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});
