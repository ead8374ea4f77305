import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';

/** What one local network keeps between starts: its ports, its secrets, its people's keys. Mode 0600, never committed. */
export interface NetworkState {
  version: 1;
  ports: Record<PortName, number>;
  secrets: Record<SecretName, string>;
  seeds: { validator: string; miner: string; developer: string; developerColdkey: string; minerColdkey: string };
}

const PORTS = [
  'gateway',
  'temporalUi',
  'temporal',
  'temporalHttp',
  'temporalMetrics',
  'postgres',
  's3',
  's3Master',
  's3Volume',
  's3Filer',
  's3Admin',
  'registry',
  'api',
  'sockets',
  'validatorWorkerMetrics',
  'forgeWorkerMetrics',
  'gpuWorkerMetrics',
  'minerApi',
  'minerWorkerMetrics',
  'agent',
] as const;
export type PortName = (typeof PORTS)[number];

const SECRETS = [
  'postgres',
  'validatorDb',
  'minerDb',
  's3',
  'keyPepper',
  'secretsKey',
  'launchKey',
  'minerSecretsKey',
] as const;
export type SecretName = (typeof SECRETS)[number];

/** People type these; the rest are whatever is free. */
const PREFERRED: Partial<Record<PortName, number>> = { gateway: 7070, temporalUi: 7080 };
/** SeaweedFS takes port + 10000 as well. */
const NEEDS_TWIN: readonly PortName[] = ['s3', 's3Master', 's3Volume', 's3Filer', 's3Admin'];

/** Reads the state of `dir` or makes it; a port that something else took meanwhile is replaced. */
export async function loadNetworkState(dir: string, gatewayPort?: number): Promise<NetworkState> {
  await mkdir(dir, { recursive: true });
  const file = join(dir, 'network.json');
  const old = await readFile(file, 'utf8').then(
    (text) => JSON.parse(text) as NetworkState,
    () => null,
  );
  const taken = new Set<number>();
  const ports = {} as Record<PortName, number>;
  for (const name of PORTS) {
    const asked = name === 'gateway' ? gatewayPort : undefined;
    const wanted = asked || (old?.ports[name] ?? (asked === 0 ? undefined : PREFERRED[name]));
    ports[name] = await freePort(wanted, NEEDS_TWIN.includes(name), taken);
    if (asked && ports[name] !== asked)
      throw new Error(`Port ${asked} is in use: choose another with --port, or 0 for any.`);
    taken.add(ports[name]);
    if (NEEDS_TWIN.includes(name)) taken.add(ports[name] + 10_000);
  }
  const state: NetworkState = {
    version: 1,
    ports,
    secrets: Object.fromEntries(
      SECRETS.map((name) => [name, old?.secrets[name] ?? randomBytes(32).toString('hex')]),
    ) as Record<SecretName, string>,
    seeds: old?.seeds ?? {
      validator: seed(),
      miner: seed(),
      developer: seed(),
      developerColdkey: seed(),
      minerColdkey: seed(),
    },
  };
  await writePrivate(file, JSON.stringify(state, null, 2));
  return state;
}

const seed = (): string => randomBytes(32).toString('hex');

async function freePort(wanted: number | undefined, twin: boolean, taken: ReadonlySet<number>): Promise<number> {
  const isFree = async (port: number): Promise<boolean> =>
    port < 65_536 && !taken.has(port) && (await listenOnce(port)) !== null;
  const fits = async (port: number): Promise<boolean> =>
    (await isFree(port)) && (!twin || (await isFree(port + 10_000)));
  if (wanted !== undefined && (await fits(wanted))) return wanted;
  for (;;) {
    const candidate = twin ? 20_000 + Math.floor(Math.random() * 12_000) : ((await listenOnce(0)) ?? 0);
    if (candidate !== 0 && (await fits(candidate))) return candidate;
  }
}

/** The port that could be bound on loopback, or null. */
async function listenOnce(port: number): Promise<number | null> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  } catch {
    return null;
  } finally {
    server.close();
  }
}

/** Written whole or not at all, readable by its owner only. */
export async function writePrivate(file: string, text: string): Promise<void> {
  const partial = `${file}.partial`;
  await writeFile(partial, text, { mode: 0o600 });
  await chmod(partial, 0o600);
  await rename(partial, file);
}
