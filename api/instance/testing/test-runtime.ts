import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { X509Certificate } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { pino } from 'pino';
import { loadRuntimeConfig } from '../../../workers/config/runtime.ts';
import { freePort } from '../child/chute-process.ts';
import { runInstance, type InstanceEnd } from '../instance.ts';
import type { FakeValidator } from './fake-validator.ts';

export const GPU_UUIDS = ['c0ffee00c0ffee00c0ffee00c0ffee00', 'c0ffee00c0ffee00c0ffee00c0ffee01'];
const dashed = (uuid: string): string => `GPU-${uuid.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')}`;

export interface TestRuntime {
  port: number;
  logPort: number;
  appDir: string;
  workDir: string;
  stop: () => void;
  end: Promise<InstanceEnd>;
  /** false until then; the outcome decides */
  isActive: () => Promise<void>;
  remove: () => Promise<void>;
}

/** The runtime in this process, told what a compute driver would tell it. */
export async function startTestRuntime({
  validator,
  command,
  addresses,
  env = {},
}: {
  validator: FakeValidator;
  command: string[];
  addresses: { miner: string; validator: string };
  env?: NodeJS.ProcessEnv;
}): Promise<TestRuntime> {
  const dir = await mkdtemp(join(tmpdir(), 'canopy-instance-'));
  const [port, logPort] = [await freePort(), await freePort()];
  const all: NodeJS.ProcessEnv = {
    PATH: process.env.PATH,
    HOME: dir,
    LANG: 'C.UTF-8',
    IMAGE_VARIABLE: 'kept',
    CHUTES_LAUNCH_JWT: validator.token(),
    CHUTES_EXTERNAL_HOST: '127.0.0.1',
    CHUTES_PORT_PRIMARY: String(port),
    CHUTES_PORT_LOGGING: String(logPort),
    CHUTES_EXECUTION_CONTEXT: 'REMOTE',
    NVIDIA_VISIBLE_DEVICES: GPU_UUIDS.map(dashed).join(','),
    CHUTES_NVIDIA_DEVICES: GPU_UUIDS.map(dashed).join(','),
    HF_HOME: join(dir, 'cache'),
    CANOPY_MINER_SS58: addresses.miner,
    CANOPY_VALIDATOR_SS58: addresses.validator,
    CANOPY_BIND_PORT: String(port),
    CANOPY_BIND_LOG_PORT: String(logPort),
    CANOPY_BIND_HOST: '127.0.0.1',
    CANOPY_DEVICES: JSON.stringify(
      [...GPU_UUIDS, 'd'.repeat(32)].map((uuid) => ({
        uuid,
        name: 'Simulated',
        memory: 85_899_345_920,
        clock_rate: 1_000_000,
      })),
    ),
    CANOPY_COMMAND: JSON.stringify(command),
    CANOPY_APP_DIR: join(dir, 'app'),
    CANOPY_WORK_DIR: dir,
    CANOPY_DRAIN_SECONDS: '5',
    ...env,
  };
  const stop = new AbortController();
  const end = runInstance({
    config: loadRuntimeConfig(all),
    env: all,
    log: pino({ level: 'silent' }),
    stop: stop.signal,
    launchBackoffMs: 5,
  });
  return {
    port,
    logPort,
    appDir: join(dir, 'app'),
    workDir: dir,
    end,
    stop: () => stop.abort(),
    isActive: async () => {
      let over: InstanceEnd | null = null;
      void end.then((how) => (over = how));
      while (!validator.steps.includes('activate')) {
        if (over) throw new Error(`ended before it was active: ${JSON.stringify(over)}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
    remove: () => rm(dir, { recursive: true, force: true }),
  };
}

export interface Call {
  port: number;
  path: string;
  secret?: string;
  method?: string;
  body?: string;
  headers?: Record<string, string>;
  certificate?: string;
  signal?: AbortSignal;
}

/** One `canopy/1` request, the served certificate compared with the claimed one, as a gateway would. */
export function callInstance({
  port,
  path,
  secret,
  method = 'GET',
  body,
  headers = {},
  certificate,
  signal,
}: Call): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const authorization = secret === undefined ? {} : { authorization: `Bearer ${secret}` };
    const req = request(
      {
        host: '127.0.0.1',
        port,
        path,
        method,
        headers: { ...authorization, ...headers },
        agent: false,
        rejectUnauthorized: false,
        minVersion: 'TLSv1.3',
        ...(signal ? { signal } : {}),
      },
      (res) => {
        const socket = res.socket as unknown as { getPeerCertificate: () => { fingerprint256: string } };
        if (
          certificate &&
          new X509Certificate(certificate).fingerprint256 !== socket.getPeerCertificate().fingerprint256
        )
          return reject(new Error('another certificate'));
        resolve(res);
      },
    );
    req.on('error', reject);
    req.end(body);
  });
}

export const bodyOf = (res: IncomingMessage): Promise<string> => text(res);
