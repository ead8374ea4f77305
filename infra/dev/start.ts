import { join, resolve } from 'node:path';
import { Command, Option } from 'commander';
import { minerNamespace } from '../../workflows/ids.ts';
import { loadHotkey } from '../../activities/clients/hotkey.ts';
import { LocalNetwork, type NetworkOptions } from './network.ts';
import { createReporter } from './reporter.ts';
import { runTour, type TourResult } from './tour.ts';

interface Flags {
  dataDir: string;
  fresh?: boolean;
  once?: boolean;
  json?: boolean;
  tour: boolean;
  port?: string;
  compute: NetworkOptions['compute'];
  gpus: string;
  native: boolean;
}

const flags = new Command('npm start --')
  .description('Boots the whole Canopy network on this machine, runs the tour, and stays up until Ctrl-C.')
  .addOption(new Option('--data-dir <dir>', 'where everything is kept').default('.canopy').env('CANOPY_DATA_DIR'))
  .option('--fresh', 'start over: forget all data in the data directory')
  .option('--once', 'exit after the tour: 0 only if every step held')
  .option('--no-tour', 'boot only')
  .option('--json', 'one JSON object a line instead of text')
  .option('--port <port>', 'of the gateway (default 7070, or a free one)')
  .addOption(
    new Option('--compute <driver>', 'how instances run').choices(['auto', 'podman', 'process']).default('auto'),
  )
  .option('--no-native', 'prove in TypeScript, also where graval can be built')
  .option('--gpus <list>', 'simulated GPUs of the local server', '2xh100_sxm')
  .parse()
  .opts<Flags>();

const reporter = createReporter({ json: flags.json === true });
const network = new LocalNetwork({
  dataDir: resolve(flags.dataDir),
  fresh: flags.fresh === true,
  compute: flags.compute,
  gpus: flags.gpus,
  native: flags.native,
  ...(flags.port === undefined ? {} : { port: Number(flags.port) }),
});

let ending: Promise<void> | null = null;
const end = (code: number): Promise<void> =>
  (ending ??= reporter
    .stage('stop', 'drain and stop every process', (note) => network.stop(note))
    .catch((err: unknown) => reporter.line(String(err)))
    .then(() => process.exit(code)));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void end(flags.once ? 130 : 0));
network.onCrash(({ name, logFile, restarting }) => {
  if (ending) return;
  reporter.line(`${name} ended unexpectedly${restarting ? ' and is started again' : ''}; its log: ${logFile}`);
  if (!restarting) void end(1);
});

const startedAt = performance.now();
try {
  const tools = await reporter.stage('prepare', 'tools, ports and keys', (note) => network.prepare(note));
  reporter.line(`instances run with ${network.compute.kind}: ${network.compute.why}`);
  await reporter.stage('stores', 'Postgres, Temporal, S3 and registry', (note) => network.startStores(tools, note));
  await reporter.stage('programs', 'validator, gateway, sockets, workers, miner, agent', (note) =>
    network.startPrograms(note),
  );
  reporter.line(`proofs are made by ${(await network.prover).why}`);
  const bootMs = Math.round(performance.now() - startedAt);
  reporter.line(`ready after ${(bootMs / 1000).toFixed(1)} s`);
  const tour = flags.tour ? await runTour(network, reporter) : null;
  await printSummary(tour, bootMs);
  if (flags.once) await end(0);
} catch (err) {
  if (!ending) {
    reporter.line(`failed: ${err instanceof Error ? err.message : String(err)}`);
    reporter.line(`logs are in ${network.logsDir}`);
    await end(1);
  }
}

async function printSummary(tour: TourResult | null, bootMs: number): Promise<void> {
  const { urls, state } = network;
  const miner = await loadHotkey(state.seeds.miner);
  const curl = tour
    ? `curl ${urls.public}/v1/chat/completions -H 'authorization: Bearer ${tour.apiKey}' -H 'content-type: application/json' \\\n    -d '{"model":"${tour.model}","stream":true,"messages":[{"role":"user","content":"Canopy is"}]}'`
    : null;
  const temporal = `temporal workflow list --address 127.0.0.1:${state.ports.temporal} --namespace`;
  reporter.summary(
    {
      urls,
      bootMs,
      apiKey: tour?.apiKey ?? null,
      model: tour?.model ?? null,
      temporalAddress: `127.0.0.1:${state.ports.temporal}`,
    },
    [
      'Canopy runs.',
      `  console     ${urls.public}/`,
      `  API         ${urls.public}            (SDK: CHUTES_API_URL=${urls.public})`,
      `  OpenAI      ${urls.public}/v1`,
      `  API docs    ${urls.public}/docs`,
      `  Temporal UI ${urls.temporalUi}`,
      `  logs        ${network.logsDir}`,
      ...(tour ? [`  API key     ${tour.apiKey}`, '', `  ${String(curl)}`] : []),
      '',
      '  watch workflows:',
      `  ${join(network.toolsBin, 'temporal')} ${temporal.slice('temporal '.length)} validator${tour ? ` --query "CanopyChute = '${tour.chuteId}'"` : ''}`,
      `  ${join(network.toolsBin, 'temporal')} ${temporal.slice('temporal '.length)} ${minerNamespace(miner.address)}`,
      ...(flags.once ? [] : ['', '  Ctrl-C stops everything.']),
    ],
  );
}
