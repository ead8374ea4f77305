import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { openSync, closeSync } from 'node:fs';
import { findOnPath } from '../toolchain.ts';

export interface Service {
  name: string;
  pid: number;
  logFile: string;
  exited: Promise<number | null>;
  stop: () => Promise<void>;
}

export interface SpawnOptions {
  name: string;
  command: string;
  args: string[];
  logFile: string;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** run as this user */
  user?: { uid: number; gid: number };
  /** how it is asked to end; SIGTERM unless it means something else there */
  stopSignal?: NodeJS.Signals;
  /** true once it serves; polled, and given up on when the process ends */
  isReady: () => Promise<boolean>;
  readyWithinMs?: number;
  stopWithinMs?: number;
  /** told before it is ready, so that a crash of ours leaves no unknown process */
  onSpawn?: (pid: number) => Promise<void>;
  /** gives up on a start that is under way, and ends the process */
  signal?: AbortSignal;
}

/** Starts a process in a group of its own, its output in `logFile`, and waits until it serves. */
export async function startService(options: SpawnOptions): Promise<Service> {
  const {
    name,
    command,
    args,
    logFile,
    env,
    cwd,
    isReady,
    user,
    stopSignal = 'SIGTERM',
    readyWithinMs = 30_000,
    stopWithinMs = 10_000,
  } = options;
  const out = openSync(logFile, 'a');
  const { file, prefix } = await diesWithUs(stopSignal);
  const child = spawn(file ?? command, file ? [...prefix, command, ...args] : args, {
    stdio: ['ignore', out, out],
    env: env ?? process.env,
    cwd,
    detached: true,
    ...user,
  });
  closeSync(out);
  const exited = new Promise<number | null>((resolve) => {
    child.once('exit', (code) => resolve(code));
    child.once('error', () => resolve(null));
  });
  await Promise.race([once(child, 'spawn'), exited]);
  if (child.pid === undefined) throw new Error(`${name}: ${command} cannot be started`);
  const service: Service = {
    name,
    pid: child.pid,
    logFile,
    exited,
    stop: () => stopChild(child, exited, stopSignal, stopWithinMs),
  };
  await options.onSpawn?.(child.pid);
  let ended = false;
  void exited.then(() => (ended = true));
  const deadline = Date.now() + readyWithinMs;
  while (!(await isReady().catch(() => false))) {
    if (ended) throw new Error(`${name} ended before it was ready; its log: ${logFile}`);
    if (options.signal?.aborted) {
      await service.stop();
      throw new Error(`${name} was stopped before it was ready`);
    }
    if (Date.now() > deadline) {
      await service.stop();
      throw new Error(`${name} was not ready within ${readyWithinMs} ms; its log: ${logFile}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return service;
}

let setpriv: Promise<string | null> | null = null;

/** Where the system can (util-linux), the process gets its stop signal when this one is killed: no orphans, even then. */
async function diesWithUs(signal: NodeJS.Signals): Promise<{ file: string | null; prefix: string[] }> {
  const file = await (setpriv ??= findOnPath('setpriv'));
  return { file, prefix: ['--pdeathsig', signal.replace('SIG', ''), '--'] };
}

async function stopChild(
  child: ChildProcess,
  exited: Promise<number | null>,
  signal: NodeJS.Signals,
  withinMs: number,
): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  child.kill(signal);
  const late = setTimeout(() => killGroup(child.pid), withinMs);
  await exited;
  clearTimeout(late);
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // gone meanwhile
  }
}

/** True when an HTTP GET answers below 500. */
export async function answers(url: string): Promise<boolean> {
  const response = await fetch(url, { signal: AbortSignal.timeout(2000) });
  await response.body?.cancel();
  return response.status < 500;
}
