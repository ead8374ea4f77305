import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { loadHotkey } from '../../activities/clients/hotkey.ts';
import { connectDatabase } from '../../activities/clients/postgres.ts';
import { minerNamespace, VALIDATOR_NAMESPACE } from '../../workflows/ids.ts';
import { migrate, type Schema } from '../migrations/migrate.ts';
import { drainMiner, undrainMiner, type DrainContext } from './drain-miner.ts';
import { lockDirectory } from './lock-directory.ts';
import { loadNetworkState, type NetworkState } from './network-state.ts';
import { prepareProver, type NativeProver } from './native-prover.ts';
import { ProcessTable } from './process-table.ts';
import { BUCKET, planPrograms, S3_ACCESS_KEY, usesGraval, withGraval, type ProgramPlan } from './programs.ts';
import { bar } from './reporter.ts';
import { answers, startService, type Service } from './services/child.ts';
import { reachablePostgresDir, startPostgres, type PostgresService } from './services/postgres.ts';
import { startSeaweed } from './services/seaweed.ts';
import { startTemporal } from './services/temporal.ts';
import { ensureTools, type Tools } from './toolchain.ts';
import { prepareCompute, stopInstances, type Compute } from './compute.ts';

export interface NetworkOptions {
  dataDir: string;
  fresh: boolean;
  port?: number;
  compute: 'podman' | 'process' | 'auto';
  gpus: string | null;
  /** build and use `graval` where that is possible */
  native: boolean;
}

/** A process ended by itself. Without its stores, or when programs keep ending, the network cannot go on. */
export interface Crash {
  name: string;
  logFile: string;
  restarting: boolean;
}

const RESTART_WINDOW_MS = 60_000;
const MAX_RESTARTS = 10;
const DRAIN_WITHIN_MS = 20_000;

export interface Urls {
  public: string;
  temporalUi: string;
  minerApi: string;
  agent: string;
  registry: string | null;
}

const ROOT = join(import.meta.dirname, '../..');

/** The whole network on one machine. `boot` brings it up stage by stage; `stop` takes down all it started, in order. */
export class LocalNetwork {
  readonly dataDir: string;
  readonly logsDir: string;
  readonly #options: NetworkOptions;
  readonly #table: ProcessTable;
  readonly #services: Service[] = [];
  readonly #programs = new Map<string, { plan: ProgramPlan; service: Service }>();
  #postgres: PostgresService | null = null;
  #lock: (() => Promise<void>) | null = null;
  #state: NetworkState | null = null;
  #compute: Compute | null = null;
  #prover: Promise<NativeProver> | null = null;
  #toolsBin = '';
  #isServing = false;
  #onCrash: (crash: Crash) => void = () => {};
  readonly #restarts: number[] = [];
  readonly #stopSignal = new AbortController();
  readonly #starting = new Set<Promise<unknown>>();

  constructor(options: NetworkOptions) {
    this.#options = options;
    this.dataDir = options.dataDir;
    this.logsDir = join(options.dataDir, 'logs');
    this.#table = new ProcessTable(options.dataDir);
  }

  get state(): NetworkState {
    if (!this.#state) throw new Error('the network is not prepared');
    return this.#state;
  }
  get compute(): Compute {
    if (!this.#compute) throw new Error('the network is not prepared');
    return this.#compute;
  }
  /** What makes the proofs of GPUs; built since `prepare`, while everything else comes up. */
  get prover(): Promise<NativeProver> {
    if (!this.#prover) throw new Error('the network is not prepared');
    return this.#prover;
  }
  /** Folder of the temporal binary, for commands a person pastes. */
  get toolsBin(): string {
    return this.#toolsBin;
  }
  /** The model a miner's operator declares for the local server: what follows `<count>x`. */
  get gpuShortRef(): string {
    return this.#options.gpus?.split('x').slice(1).join('x') ?? 'h100_sxm';
  }
  get urls(): Urls {
    const { ports } = this.state;
    return {
      public: `http://127.0.0.1:${ports.gateway}`,
      temporalUi: `http://127.0.0.1:${ports.temporalUi}`,
      minerApi: `http://127.0.0.1:${ports.minerApi}`,
      agent: `http://127.0.0.1:${ports.agent}`,
      registry: this.#compute?.kind === 'podman' ? `127.0.0.1:${ports.registry}` : null,
    };
  }
  get #isStopping(): boolean {
    return this.#stopSignal.signal.aborted;
  }
  /** Called when a process ends that nobody stopped: a program is started again, unless it keeps ending; a store is not. */
  onCrash(listener: (crash: Crash) => void): void {
    this.#onCrash = listener;
  }

  /** Takes the data directory, ends what a crashed start left, brings ports, keys and tools. */
  async prepare(note: (message: string) => void): Promise<Tools> {
    const { dataDir, fresh } = this.#options;
    await mkdir(dataDir, { recursive: true });
    this.#lock = await lockDirectory(dataDir);
    const ended = await this.#table.endLeftovers();
    if (ended.length > 0) note(`ended what an earlier start left: ${ended.join(', ')}`);
    await stopInstances(dataDir, await this.#minerHotkey());
    if (fresh) {
      for (const part of FRESH_PARTS) await rm(join(dataDir, part), { recursive: true, force: true });
      await rm(await reachablePostgresDir(join(dataDir, 'postgres')), { recursive: true, force: true });
    }
    await mkdir(this.logsDir, { recursive: true });
    this.#prover = prepareProver({
      native: this.#options.native,
      logFile: join(this.logsDir, 'graval-build.log'),
    });
    this.#state = await loadNetworkState(dataDir, this.#options.port);
    const tools = await ensureTools(join(dataDir, 'tools'), note);
    this.#toolsBin = dirname(tools.temporal);
    this.#compute = await prepareCompute({
      wanted: this.#options.compute,
      dataDir,
      registryPort: this.state.ports.registry,
      note,
    });
    return tools;
  }

  /** Postgres, Temporal, S3 and, where containers run, the registry; then the schemas. */
  async startStores(tools: Tools, note: (message: string) => void): Promise<void> {
    const { state, dataDir, logsDir } = this;
    const { ports, secrets } = state;
    const miner = await loadHotkey(state.seeds.miner);
    const dbFile = join(dataDir, 'temporal', 'temporal.db');
    await mkdir(join(dataDir, 'temporal'), { recursive: true });
    const parts: Promise<unknown>[] = [];
    let done = 0;
    const part = async (work: Promise<unknown>) => {
      await work;
      note(bar(++done, parts.length));
    };
    parts.push(
      part(
        startPostgres({
          dir: await reachablePostgresDir(join(dataDir, 'postgres')),
          port: ports.postgres,
          password: secrets.postgres,
          logFile: join(logsDir, 'postgres.log'),
        }).then((service) => {
          this.#postgres = service;
          return this.#own(service);
        }),
      ),
      part(
        startTemporal({
          binary: tools.temporal,
          port: ports.temporal,
          httpPort: ports.temporalHttp,
          uiPort: ports.temporalUi,
          metricsPort: ports.temporalMetrics,
          dbFile,
          namespaces: [VALIDATOR_NAMESPACE, minerNamespace(miner.address)],
          logFile: join(logsDir, 'temporal.log'),
        }).then((service) => this.#own(service)),
      ),
      part(
        startSeaweed({
          binary: tools.weed,
          dir: join(dataDir, 's3'),
          bucket: BUCKET,
          accessKey: S3_ACCESS_KEY,
          secretKey: secrets.s3,
          logFile: join(logsDir, 's3.log'),
          ports: {
            s3: ports.s3,
            master: ports.s3Master,
            volume: ports.s3Volume,
            filer: ports.s3Filer,
            admin: ports.s3Admin,
          },
        }).then((service) => this.#own(service)),
      ),
      part(this.compute.startRegistry(logsDir).then((service) => service && this.#own(service))),
    );
    const results = await Promise.allSettled(parts);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    const postgres = this.#postgres;
    if (!postgres) throw new Error('Postgres did not start');
    await postgres.ensureDatabase('validator', 'validator', secrets.validatorDb);
    await postgres.ensureDatabase('miner', 'miner', secrets.minerDb);
    await Promise.all((['validator', 'miner'] as const).map((schema) => this.#migrate(schema)));
  }

  /** Every program of ARCHITECTURE.md, as a process of its own. */
  async startPrograms(note: (message: string) => void): Promise<void> {
    const { state } = this;
    const [validator, miner] = await Promise.all([loadHotkey(state.seeds.validator), loadHotkey(state.seeds.miner)]);
    const [validatorCold, minerCold] = await Promise.all([
      loadHotkey(state.seeds.developerColdkey),
      loadHotkey(state.seeds.minerColdkey),
    ]);
    await writeFile(
      join(this.dataDir, 'metagraph.json'),
      JSON.stringify([
        {
          hotkey: validator.address,
          coldkey: validatorCold.address,
          uid: 0,
          stake_rao: '1000000000000',
          host: '127.0.0.1',
          port: state.ports.api,
        },
        {
          hotkey: miner.address,
          coldkey: minerCold.address,
          uid: 1,
          stake_rao: '1000000000',
          host: '127.0.0.1',
          port: state.ports.minerApi,
        },
      ]),
    );
    const { urls } = this;
    const plans = planPrograms({
      state,
      dataDir: this.dataDir,
      hotkeys: { validator: validator.address, miner: miner.address },
      urls: {
        validatorDb: this.#databaseUrl('validator'),
        minerDb: this.#databaseUrl('miner'),
        s3: `http://127.0.0.1:${state.ports.s3}`,
        public: urls.public,
        temporalUi: urls.temporalUi,
        registry: urls.registry,
      },
      compute: this.compute.kind,
      runtimeDir: this.compute.runtimeDir,
      containerEnv: this.compute.env,
      simulatedGpus: this.#options.gpus,
      services: [
        { name: 'Temporal UI', kind: 'http', url: urls.temporalUi, healthUrl: urls.temporalUi },
        ...(urls.registry ? [{ name: 'registry', kind: 'store', healthUrl: `http://${urls.registry}/v2/` }] : []),
      ],
    });
    let ready = 0;
    note(bar(0, plans.length));
    const results = await Promise.allSettled(
      plans.map(async (plan) => {
        const whole = usesGraval(plan) ? withGraval(plan, (await this.prover).graval) : plan;
        if (this.#isStopping) throw new Error(`${plan.name} was stopped before it was started`);
        await this.startProgram(whole);
        note(bar(++ready, plans.length));
      }),
    );
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    this.#isServing = true;
    await undrainMiner(this.#drainContext);
  }

  get #drainContext(): DrainContext {
    return { dataDir: this.dataDir, minerApi: this.urls.minerApi, minerSeed: this.state.seeds.miner };
  }

  /** Starts one program, or starts it again after it was killed. */
  async startProgram(plan: ProgramPlan): Promise<void> {
    const start = this.#start(plan);
    this.#starting.add(start);
    await start.finally(() => this.#starting.delete(start));
  }

  async #start(plan: ProgramPlan): Promise<void> {
    const inherited = Object.fromEntries(
      ['PATH', 'HOME', 'LANG', 'TMPDIR', 'XDG_RUNTIME_DIR', 'HTTPS_PROXY', 'HTTP_PROXY', 'NO_PROXY'].map((name) => [
        name,
        process.env[name],
      ]),
    );
    const service = await startService({
      name: plan.name,
      command: process.execPath,
      args: ['--disable-warning=ExperimentalWarning', '--enable-source-maps', join(ROOT, plan.entry)],
      cwd: ROOT,
      env: { ...inherited, NODE_COMPILE_CACHE: join(this.dataDir, 'compile-cache'), ...plan.env },
      logFile: join(this.logsDir, `${plan.name}.log`),
      isReady: () => answers(plan.readyUrl),
      readyWithinMs: 90_000,
      stopWithinMs: 15_000,
      onSpawn: (pid) => this.#table.add(plan.name, pid),
      signal: this.#stopSignal.signal,
    });
    this.#programs.set(plan.name, { plan, service });
    void service.exited.then(() => this.#restart(plan, service));
  }

  async #restart(plan: ProgramPlan, service: Service): Promise<void> {
    if (this.#isStopping) return;
    const now = Date.now();
    this.#restarts.push(now);
    const restarting = this.#restarts.filter((at) => now - at < RESTART_WINDOW_MS).length <= MAX_RESTARTS;
    this.#onCrash({ name: plan.name, logFile: service.logFile, restarting });
    if (!restarting) return;
    await this.startProgram(plan).catch(
      () => this.#isStopping || this.#onCrash({ name: plan.name, logFile: service.logFile, restarting: false }),
    );
  }

  /** Deployments are drained through their miner, then programs and stores end. What does not end in time is ended. */
  async stop(note: (message: string) => void = () => {}): Promise<void> {
    if (this.#isServing && !this.#isStopping) {
      note('deployments');
      await drainMiner(this.#drainContext, DRAIN_WITHIN_MS).catch((err: unknown) =>
        note(`not drained: ${String(err)}`),
      );
    }
    this.#stopSignal.abort();
    await Promise.allSettled([...this.#starting, this.#prover]); // a build ends by itself in seconds
    const programs = [...this.#programs.values()].map(({ service }) => service);
    note('programs');
    await Promise.all(programs.map((service) => service.stop()));
    note('instances');
    await stopInstances(this.dataDir, await this.#minerHotkey());
    note('stores');
    await Promise.all(this.#services.map((service) => service.stop()));
    await this.#table.clear();
    await this.#lock?.();
    this.#lock = null;
  }

  async #own(service: Service): Promise<void> {
    this.#services.push(service);
    void service.exited.then(
      () => this.#isStopping || this.#onCrash({ name: service.name, logFile: service.logFile, restarting: false }),
    );
    await this.#table.add(service.name, service.pid);
  }

  /** Of the network that is or was here; containers carry it. */
  async #minerHotkey(): Promise<string | undefined> {
    const text = await readFile(join(this.dataDir, 'network.json'), 'utf8').catch(() => null);
    return text === null ? undefined : (await loadHotkey((JSON.parse(text) as NetworkState).seeds.miner)).address;
  }

  #databaseUrl(schema: Schema): string {
    const { secrets, ports } = this.state;
    const password = schema === 'validator' ? secrets.validatorDb : secrets.minerDb;
    return `postgresql://${schema}:${password}@127.0.0.1:${ports.postgres}/${schema}`;
  }

  async #migrate(schema: Schema): Promise<void> {
    const knex = connectDatabase({ url: this.#databaseUrl(schema), poolMax: 2, applicationName: 'migrate' });
    try {
      await migrate(knex, schema);
    } finally {
      await knex.destroy();
    }
  }
}

/** What `--fresh` forgets: everything but the downloaded tools and caches keyed by content. */
const FRESH_PARTS = [
  'postgres',
  'temporal',
  's3',
  'registry',
  'spool',
  'work/deployments',
  'work/forge',
  'miner',
  'agent',
  'logs',
  'network.json',
  'developer.json',
  'drained.json',
  'metagraph.json',
];
