import { afterAll, expect, test } from '@jest/globals';
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
const networks: RunningNetwork[] = [];
afterAll(async () => {
  for (const network of networks) await network.remove();
});
const start = async (args: string[], dataDir?: string): Promise<RunningNetwork> => {
  const network = await RunningNetwork.start(args, dataDir);
  networks.push(network);
  return network;
};

test('cold, then warm, on the process driver: every step holds, exit 0, no process left, boot under 20 s', async () => {
  const cold = await start(['--once', '--fresh', '--compute', 'process']);
  await cold.ready();
  expect(await cold.exited).toBe(0);
  expect(cold.stages.map((stage) => `${stage.id}${stage.held ? '' : ' FAILED'}`)).toEqual(TOUR);
  expect(cold.lines.some((line) => line.includes('*simulated*'))).toBe(true);
  expect(await processesOf(cold.dataDir)).toEqual([]);

  const warm = await start(['--once', '--compute', 'process'], cold.dataDir);
  const summary = await warm.ready();
  expect(await warm.exited).toBe(0);
  expect(warm.stages.map((stage) => `${stage.id}${stage.held ? '' : ' FAILED'}`)).toEqual(TOUR);
  process.stderr.write(
    `warm boot ${summary.bootMs} ms; demand to active, cold: ${cold.stages.find((stage) => stage.id === 'chute')?.durationMs} ms\n`,
  );
  expect(await processesOf(warm.dataDir)).toEqual([]);
});
