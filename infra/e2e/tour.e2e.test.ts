import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import pg from 'pg';
import { detectContainerRuntime } from '../dev/base-images/detect.ts';
import type { NetworkState } from '../dev/network-state.ts';
import { findOnPath } from '../dev/toolchain.ts';
import { processesOf, RunningNetwork } from './running-network.ts';

const TOUR = [
  'prepare',
  'stores',
  'programs',
  'user',
  'server',
  'image',
  'chute',
  'stream',
  'errors',
  'complete',
  'usage',
  'stop',
];
const containers = await detectContainerRuntime();
const whyNot =
  containers.podman && containers.buildah
    ? (await findOnPath('docker-registry'))
      ? null
      : 'docker-registry is not installed'
    : containers.why;

const networks: RunningNetwork[] = [];
afterAll(async () => {
  for (const network of networks) await network.remove();
});
async function start(args: string[], dataDir?: string): Promise<RunningNetwork> {
  const network = await RunningNetwork.start(args, dataDir);
  networks.push(network);
  return network;
}

const missing = (await Promise.all(['cmake', 'g++'].map((name) => findOnPath(name)))).includes(null);
const PROVER = missing ? 'TypeScript' : 'graval (CPU reference)';

/** A start that runs the tour and ends; every step held, exit 0, nothing left behind. */
async function expectWholeTour(
  network: RunningNetwork,
  prover = PROVER,
): Promise<{ bootMs: number; demandToActiveMs: number }> {
  const { bootMs } = await network.ready();
  expect(await network.exited).toBe(0);
  expect(network.stages.map((stage) => `${stage.id}${stage.held ? '' : ' FAILED'}`)).toEqual(TOUR);
  const proofs = network.lines.filter((line) => line.startsWith('GPU '));
  const proof =
    /^GPU [0-9a-f]{32} h100_sxm: \*simulated\*, [1-9][0-9,]+ bytes filled in [1-9][0-9]* ms, walk [0-9]+ ms, 32 samples checked, prover: (.+)$/;
  expect(proofs.map((line) => proof.exec(line)?.[1] ?? line)).toEqual([prover, prover]);
  expect(await processesOf(network.dataDir)).toEqual([]);
  return { bootMs, demandToActiveMs: network.stages.find((stage) => stage.id === 'chute')?.durationMs ?? Infinity };
}

test('process driver: the tour holds from nothing and again warm; ready in 20 s, demand to active in 10 s', async () => {
  const cold = await start(['--once', '--fresh', '--compute', 'process']);
  const first = await expectWholeTour(cold);
  const second = await expectWholeTour(await start(['--once', '--compute', 'process'], cold.dataDir));
  process.stderr.write(`process driver, from nothing ${JSON.stringify(first)}, warm ${JSON.stringify(second)}\n`);
  expect(first.demandToActiveMs).toBeLessThan(10_000);
  expect(second.bootMs).toBeLessThan(20_000);
});

if (whyNot === null) {
  test('podman driver: the tour holds with images built by buildah and instances in containers', async () => {
    const measured = await expectWholeTour(await start(['--once', '--fresh', '--compute', 'podman']));
    process.stderr.write(`podman driver, from nothing ${JSON.stringify(measured)}\n`);
    expect(measured.demandToActiveMs).toBeLessThan(30_000);
  });
} else {
  test(`podman driver: refused with what is missing (here: ${whyNot})`, async () => {
    const network = await start(['--once', '--fresh', '--compute', 'podman']);
    await expect(network.ready()).rejects.toThrow('--compute podman cannot work here');
    expect(await network.exited).toBe(1);
  });
}

test('killed with -9 in the middle, the next start cleans up and serves again; here TypeScript proves', async () => {
  const network = await start(['--fresh', '--compute', 'process', '--no-native']);
  await network.ready();
  expect(await network.stop('SIGKILL')).toBe(null);
  const again = await start(['--once', '--compute', 'process', '--no-native'], network.dataDir);
  await expectWholeTour(again, 'TypeScript');
});

/** What Postgres says when `user` of this network opens `database`. */
async function openDatabase(network: RunningNetwork, user: 'validator' | 'miner', database: string): Promise<string> {
  const { ports, secrets } = JSON.parse(await readFile(join(network.dataDir, 'network.json'), 'utf8')) as NetworkState;
  const password = user === 'validator' ? secrets.validatorDb : secrets.minerDb;
  const client = new pg.Client(`postgresql://${user}:${password}@127.0.0.1:${ports.postgres}/${database}`);
  try {
    await client.connect();
    const { rows } = await client.query('select count(*)::int as tables from pg_tables where schemaname = $1', [
      'public',
    ]);
    return rows[0].tables > 0 ? 'sees its tables' : 'sees no tables';
  } catch (err) {
    return (err as Error).message;
  } finally {
    await client.end();
  }
}

test('validator and miner cannot open each other’s database; a second start on the same data is refused', async () => {
  const network = await start(['--fresh', '--no-tour', '--compute', 'process']);
  await network.ready();
  expect(await openDatabase(network, 'validator', 'validator')).toBe('sees its tables');
  expect(await openDatabase(network, 'miner', 'miner')).toBe('sees its tables');
  expect(await openDatabase(network, 'validator', 'miner')).toMatch(/^permission denied for database/);
  expect(await openDatabase(network, 'miner', 'validator')).toMatch(/^permission denied for database/);
  const second = await start(['--no-tour'], network.dataDir);
  await expect(second.ready()).rejects.toThrow('A network already runs on');
  expect(await second.exited).toBe(1);
});
