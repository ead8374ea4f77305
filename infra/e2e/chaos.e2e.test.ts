import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import yazl from 'yazl';
import { loadHotkey } from '../../activities/clients/hotkey.ts';
import { ApiClient } from '../dev/api-client.ts';
import type { NetworkState } from '../dev/network-state.ts';
import { processesOf, RunningNetwork } from './running-network.ts';

/** One network with the tour behind it; workers are killed with -9 in the middle of a step, and the step completes. */
let network: RunningNetwork;
let api: ApiClient;
let username: string;
let chuteId: string;

beforeAll(async () => {
  network = await RunningNetwork.start(['--fresh', '--compute', 'process']);
  const { urls, model } = await network.ready();
  const state = JSON.parse(await readFile(join(network.dataDir, 'network.json'), 'utf8')) as NetworkState;
  api = new ApiClient(urls.public, await loadHotkey(state.seeds.developer));
  username = (await api.get<{ username: string }>('/users/me', 'me')).username;
  chuteId = (await api.get<{ chute_id: string }>(`/chutes/${username}/${model}`, 'chutes')).chute_id;
}, 240_000);
afterAll(() => network.remove());

async function until<Value>(what: string, look: () => Promise<Value | null>, withinMs = 90_000): Promise<Value> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const found = await look().catch(() => null); // the API answers errors while what it stands on is down
    if (found !== null) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${withinMs} ms\n${await network.logTails()}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const kill = async (program: string): Promise<void> => void process.kill(await network.pidOf(program), 'SIGKILL');

async function upload(tag: string, dockerfile: string): Promise<string> {
  const zip = new yazl.ZipFile();
  zip.addBuffer(Buffer.from('print("hello")\n'), 'hello.py');
  zip.end();
  const chunks: Uint8Array[] = [];
  for await (const chunk of zip.outputStream) chunks.push(chunk as unknown as Uint8Array);
  const form = new FormData();
  for (const [field, value] of Object.entries({
    wait: 'False',
    username,
    name: 'chaos',
    tag,
    readme: '',
    logo_id: '__none__',
    dockerfile,
    image: 'none',
    public: 'False',
  }))
    form.append(field, value);
  form.append('build_context', new Blob([Buffer.concat(chunks)], { type: 'application/zip' }), 'chute.zip');
  const encoded = new Response(form);
  const answer = await api.request('POST', '/images/', {
    bytes: new Uint8Array(await encoded.arrayBuffer()),
    contentType: encoded.headers.get('content-type') ?? '',
  });
  return ((await answer.json()) as { image_id: string }).image_id;
}

const imageStatus = async (imageId: string): Promise<string> =>
  (await api.get<{ status: string }>(`/images/${imageId}`, 'images')).status;

test.each(['forge-worker', 'validator-worker'])(
  'kill -9 of %s while an image builds: it is built all the same',
  async (program) => {
    const imageId = await upload(
      `kill-${program}`,
      'FROM parachutes/python:3.12\nWORKDIR /app\nCOPY hello.py hello.py\nRUN sleep 3\nCMD ["python3", "hello.py"]\n',
    );
    await until('building', async () => ((await imageStatus(imageId)) === 'building' ? true : null));
    await kill(program);
    const status = await until('a finished build', async () => {
      const now = await imageStatus(imageId);
      return now === 'built and pushed' || now.startsWith('error') ? now : null;
    });
    expect(status).toBe('built and pushed');
  },
);

interface Instance {
  instance_id: string;
  active: boolean;
  verified: boolean;
}
const instances = async (): Promise<Instance[]> =>
  (await api.get<{ instances: Instance[] }>(`/chutes/${chuteId}`, 'chutes')).instances;
const setTarget = async (target: number): Promise<void> =>
  void (await api.request('PUT', `/chutes/${chuteId}/target_count`, { json: { target_count: target } }));
const runtimes = async (): Promise<number> =>
  (await processesOf(join(network.dataDir, 'miner', 'deployments'))).filter((line) =>
    line.includes('api/instance/main.ts'),
  ).length;

const settled = (count: number) => async (): Promise<true | null> => {
  const all = await instances();
  return all.length === count && all.every((each) => each.active && each.verified) && (await runtimes()) === count
    ? true
    : null;
};

test.each(['miner-worker', 'validator-worker', 'gpu-worker'])(
  'kill -9 of %s during a launch and during a removal: both complete, nothing is left over',
  async (program) => {
    await until('one active instance', settled(1));
    await setTarget(2);
    await until('a launch under way', async () =>
      (await instances()).length === 2 || (await runtimes()) === 2 ? true : null,
    );
    await kill(program);
    await until('two active instances', settled(2), 120_000);
    await setTarget(1);
    await until('a removal under way', async () =>
      (await instances()).length < 2 || (await runtimes()) < 2 ? true : null,
    );
    await kill(program);
    expect(await until('one active instance and one runtime', settled(1), 120_000)).toBe(true);
  },
);

test('after all that, stopping leaves no process', async () => {
  expect(await network.stop()).toBe(0);
  expect(await processesOf(network.dataDir)).toEqual([]);
});
