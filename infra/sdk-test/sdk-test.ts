import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadHotkey } from '../../activities/clients/hotkey.ts';
import { SDK_VERSION } from './sdk-venv.ts';

export interface SdkTestOptions {
  /** the running network, e.g. `http://127.0.0.1:8000` */
  baseUrl: string;
  /** the SDK's `chutes` */
  program: string;
  report: (line: string) => void;
  buildWithinMs?: number;
}
interface Ran {
  code: number;
  output: string;
}

const MODULE = (username: string): string => `
from chutes.chute import Chute, NodeSelector
from chutes.image import Image

image = Image(username="${username}", name="sdk-test", tag="v1", readme="made by the SDK test").with_env("MADE_BY", "sdk")
chute = Chute(username="${username}", name="sdk-test", image=image, tagline="made by the SDK test", concurrency=4,
              node_selector=NodeSelector(gpu_count=1, min_vram_gb_per_gpu=16))


@chute.cord(public_api_path="/hello", public_api_method="POST")
async def hello(self, data: dict) -> dict:
    return {"hello": data}
`;

/**
 * PyPI's own `chutes` against a running network: register, keys, build, deploy, lists, delete. Each step counts as one
 * test, judged by what the SDK prints and by what the API says afterwards.
 */
export async function runSdkTest({
  baseUrl,
  program,
  report,
  buildWithinMs = 300_000,
}: SdkTestOptions): Promise<{ passed: number; failed: number }> {
  const dir = await mkdtemp(join(tmpdir(), 'canopy-sdk-'));
  const username = `sdk_${randomBytes(4).toString('hex')}`;
  await writeWallet(join(dir, 'wallets'));
  await writeFile(join(dir, 'hello.py'), MODULE(username));
  const configPath = join(dir, 'config.ini');
  const env = {
    PATH: process.env.PATH,
    HOME: dir,
    LANG: 'C.UTF-8',
    NO_COLOR: '1',
    COLUMNS: '200',
    CHUTES_CONFIG_PATH: configPath,
    CHUTES_API_URL: baseUrl,
    CHUTES_ALLOW_MISSING: 'true',
  };
  const chutes = (args: string[], withinMs = 60_000): Promise<Ran> =>
    runProgram({ program, args, cwd: dir, env, withinMs });
  const count = { passed: 0, failed: 0 };
  let apiKey = '';
  const api = async (path: string): Promise<Record<string, unknown>> => {
    const response = await fetch(baseUrl + path, { headers: { authorization: `Bearer ${apiKey}` } });
    if (!response.ok)
      throw new Error(`GET ${path} answered ${response.status}: ${(await response.text()).slice(0, 200)}`);
    return (await response.json()) as Record<string, unknown>;
  };
  const step = async (name: string, act: () => Promise<void>): Promise<void> => {
    const startedAt = performance.now();
    try {
      await act();
      count.passed++;
      report(`✔ ${name} ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
    } catch (err) {
      count.failed++;
      report(`✖ ${name}: ${(err as Error).message}`);
    }
  };
  try {
    await step(`register (chutes ${SDK_VERSION})`, async () => {
      const ran = await chutes([
        'register',
        '--username',
        username,
        '--wallets-path',
        join(dir, 'wallets'),
        '--wallet',
        'default',
        '--hotkey',
        'default',
      ]);
      expectSuccess(ran);
      const config = await readFile(configPath, 'utf8');
      if (!config.includes(`username = ${username}`) || !/user_id = [0-9a-f-]{36}/.test(config))
        throw new Error(`the written config lacks the user:\n${ran.output}`);
    });
    await step('keys create', async () => {
      const ran = await chutes(['keys', 'create', '--name', 'sdk-test', '--admin']);
      expectSuccess(ran);
      apiKey = /cpk_[0-9a-f]{32}\.[0-9a-f]{32}\.[A-Za-z0-9]{32}/.exec(ran.output.replace(/\s/g, ''))?.[0] ?? '';
      if (apiKey === '') throw new Error('no key in the output');
      const me = await api('/users/me');
      if (me.username !== username) throw new Error(`the key belongs to ${String(me.username)}`);
    });
    await step('keys list', async () => expectText(await chutes(['keys', 'list']), 'sdk-test'));
    await step('build --wait', async () => {
      expectSuccess(await chutes(['build', 'hello:chute', '--wait'], buildWithinMs));
      const image = await api(`/images/${username}/sdk-test:v1`).catch(() => api('/images/sdk-test:v1'));
      if (image.status !== 'built and pushed') throw new Error(`the image is '${String(image.status)}'`);
    });
    await step('build again says it exists', async () => {
      const { code, output } = await chutes(['build', 'hello:chute', '--wait']);
      if (code !== 1 || !output.includes('already exists')) throw new Error(`exit ${code}:\n${output.trim()}`);
    });
    await step('images list', async () => expectText(await chutes(['images', 'list']), 'sdk-test'));
    await step('deploy', async () => {
      expectSuccess(await chutes(['deploy', 'hello:chute', '--accept-fee']));
      const chute = await api('/chutes/sdk-test');
      if (chute.name !== 'sdk-test' || !Array.isArray(chute.cords) || chute.cords.length !== 1)
        throw new Error('the API does not show the chute as it was sent');
    });
    await step('chutes list', async () => expectText(await chutes(['chutes', 'list']), 'sdk-test'));
    await step('chutes get', async () => expectText(await chutes(['chutes', 'get', 'sdk-test']), 'chute_id'));
    await step('chutes delete', async () => {
      expectSuccess(await chutes(['chutes', 'delete', 'sdk-test']));
      const response = await fetch(`${baseUrl}/chutes/sdk-test`, { headers: { authorization: `Bearer ${apiKey}` } });
      if (response.status !== 404) throw new Error(`the API still answers ${response.status}`);
    });
    await step('images delete', async () => expectSuccess(await chutes(['images', 'delete', 'sdk-test:v1'])));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
  report(`${count.passed} passed, ${count.failed} failed`);
  return count;
}

/** The layout the SDK reads (spec/sdk-and-runtime.md §1.5 register). */
async function writeWallet(walletsDir: string): Promise<void> {
  const wallet = join(walletsDir, 'default');
  await mkdir(join(wallet, 'hotkeys'), { recursive: true });
  const [hotSeed, coldSeed] = [randomBytes(32).toString('hex'), randomBytes(32).toString('hex')];
  const hotkey = await loadHotkey(hotSeed);
  const coldkey = await loadHotkey(coldSeed);
  await writeFile(
    join(wallet, 'hotkeys', 'default'),
    JSON.stringify({ ss58Address: hotkey.address, secretSeed: `0x${hotSeed}` }),
    { mode: 0o600 },
  );
  await writeFile(join(wallet, 'coldkeypub.txt'), JSON.stringify({ ss58Address: coldkey.address }));
}

function expectSuccess({ code, output }: Ran): void {
  const lastLines = output.trim().split('\n').slice(-15).join('\n');
  if (code !== 0 || /\bERROR\b|Traceback/.test(output)) throw new Error(`exit ${code}:\n${lastLines}`);
}

function expectText(ran: Ran, wanted: string | RegExp): void {
  const found = typeof wanted === 'string' ? ran.output.includes(wanted) : wanted.test(ran.output);
  if (ran.code !== 0 || !found)
    throw new Error(
      `exit ${ran.code}, without ${String(wanted)}:\n${ran.output.trim().split('\n').slice(-15).join('\n')}`,
    );
}

interface Run {
  program: string;
  args: string[];
  cwd: string;
  env: NodeJS.ProcessEnv;
  withinMs: number;
}

/** Every yes/no prompt is answered with yes. */
function runProgram({ program, args, cwd, env, withinMs }: Run): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd,
      env,
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: withinMs,
      killSignal: 'SIGKILL',
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
    child.stdin.on('error', () => {}); // it may end without reading
    child.stdin.end('y\ny\ny\n');
    child.once('error', reject);
    child.once('close', (code, signal) =>
      resolve({ code: code ?? 1, output: signal ? `${output}\nkilled by ${signal} after ${withinMs} ms` : output }),
    );
  });
}
