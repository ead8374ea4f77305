import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');

export interface Stage {
  id: string;
  held: boolean;
  durationMs: number;
  reason?: string;
}
export interface Summary {
  urls: { public: string; minerApi: string; temporalUi: string };
  bootMs: number;
  apiKey: string;
  model: string;
  temporalAddress: string;
}

/** `npm start -- --json` as a user runs it, in a folder of its own. */
export class RunningNetwork {
  readonly dataDir: string;
  readonly stages: Stage[] = [];
  readonly lines: string[] = [];
  summary: Summary | null = null;
  #child: ChildProcess;
  readonly exited: Promise<number | null>;
  #changed: (() => void)[] = [];

  static async start(args: string[], dataDir?: string): Promise<RunningNetwork> {
    const dir = dataDir ?? (await mkdtemp(join(tmpdir(), 'canopy-e2e-')));
    await chmod(dir, 0o755); // Postgres runs as a user of its own when we are root
    return new RunningNetwork(args, dir);
  }

  private constructor(args: string[], dataDir: string) {
    this.dataDir = dataDir;
    this.#child = spawn(
      process.execPath,
      [join(ROOT, 'infra/dev/start.ts'), '--json', '--data-dir', dataDir, '--port', '0', ...args],
      {
        cwd: ROOT,
        stdio: ['ignore', 'pipe', 'inherit'],
        env: process.env,
      },
    );
    this.exited = once(this.#child, 'exit').then(([code]) => code as number | null);
    let rest = '';
    this.#child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.#read(line);
    });
    void this.exited.then(() => this.#wake());
  }

  #read(line: string): void {
    const record = JSON.parse(line) as {
      event: string;
      id: string;
      message?: string;
      durationMs: number;
      reason?: string;
    } & Summary;
    if (record.event === 'stage.held' || record.event === 'stage.failed') {
      this.stages.push({
        id: record.id,
        held: record.event === 'stage.held',
        durationMs: record.durationMs,
        ...(record.reason ? { reason: record.reason } : {}),
      });
    }
    if (record.event === 'line' && record.message) this.lines.push(record.message);
    if (record.event === 'summary') this.summary = record;
    this.#wake();
  }
  #wake(): void {
    for (const wake of this.#changed.splice(0)) wake();
  }

  /** Resolves with the summary once the tour held; rejects with what failed. */
  async ready(): Promise<Summary> {
    let ended = false;
    void this.exited.then(() => (ended = true));
    for (;;) {
      if (this.summary) return this.summary;
      const failed = this.stages.find((stage) => !stage.held);
      if (failed || ended)
        throw new Error(
          `the network did not come up: ${failed ? `${failed.id}: ${failed.reason}` : 'it ended'}\n${this.lines.slice(-10).join('\n')}\n${await this.logTails()}`,
        );
      await new Promise<void>((resolve) => this.#changed.push(resolve));
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.#child.exitCode === null) this.#child.kill(signal);
    return this.exited;
  }

  async remove(): Promise<void> {
    await this.stop();
    await rm(this.dataDir, { recursive: true, force: true });
  }

  /** Pid of a program of this network, from its process table. */
  async pidOf(name: string): Promise<number> {
    const table = JSON.parse(await readFile(join(this.dataDir, 'processes.json'), 'utf8')) as {
      name: string;
      pid: number;
    }[];
    const found = table.findLast((each) => each.name === name);
    if (!found) throw new Error(`no process ${name}`);
    return found.pid;
  }

  async logTails(): Promise<string> {
    const dir = join(this.dataDir, 'logs');
    const files = await readdir(dir).catch(() => []);
    const tails = await Promise.all(
      files.map(
        async (file) =>
          `--- ${file}\n${(await readFile(join(dir, file), 'utf8'))
            .split('\n')
            .filter((line) => /error|fatal|Error/.test(line))
            .slice(-5)
            .join('\n')}`,
      ),
    );
    return tails.join('\n').slice(-8000);
  }
}

/** Processes whose command line or environment names this data directory: what a stopped network must not leave. */
export async function processesOf(dataDir: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name) && Number(name) !== process.pid);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const [cmdline, environ] = await Promise.all([
        readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''),
        readFile(`/proc/${pid}/environ`, 'utf8').catch(() => ''),
      ]);
      return cmdline.includes(dataDir) || environ.includes(dataDir) ? `${pid} ${cmdline.replaceAll('\0', ' ')}` : null;
    }),
  );
  return found.filter((each): each is string => each !== null);
}
