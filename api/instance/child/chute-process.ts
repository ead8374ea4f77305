import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { basename } from 'node:path';
import { CHILD_READY_PATHS } from '../../../workflows/domain/protocol/runtime-env.ts';
import { captureLines } from '../logs/capture-lines.ts';
import { descendantsOf } from './process-tree.ts';

const LAST_LINES = 20;
const READY_PAUSE_MS = 50;
const LONGEST_READY_PAUSE_MS = 1000;

export interface ChuteProcess {
  pid: number;
  port: number;
  /** how it ended, in words a person understands; resolves once its output is read to the end */
  ended: Promise<string>;
  hasEnded: () => boolean;
  lastLines: () => string[];
  /** SIGTERM, then SIGKILL to it and everything it started */
  stop: (withinMs: number) => Promise<void>;
}

export interface ChuteProcessOptions {
  command: string[];
  cwd: string;
  env: NodeJS.ProcessEnv;
  port: number;
  onLine: (pid: number, program: string, line: string) => void;
}

/** Starts the image's own command in the runtime's process group, so that whoever kills the group leaves nothing. */
export async function startChuteProcess({
  command,
  cwd,
  env,
  port,
  onLine,
}: ChuteProcessOptions): Promise<ChuteProcess> {
  const [file, ...args] = command;
  if (!file) throw new Error("the chute's command is empty");
  const child = spawn(file, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  try {
    await once(child, 'spawn');
  } catch (err) {
    throw new Error(
      `${file} cannot be started in ${cwd}: ${(err as NodeJS.ErrnoException).code ?? (err as Error).message}`,
      { cause: err },
    );
  }
  const pid = child.pid ?? 0;
  const program = basename(file);
  const last: string[] = [];
  const keep = (line: string) => {
    last.push(line);
    if (last.length > LAST_LINES) last.shift();
    onLine(pid, program, line);
  };
  let over = false;
  const exited = once(child, 'exit').then(([code, signal]: (number | string | null)[]) => {
    over = true;
    return signal ? `was killed by ${signal}` : `exited with ${code}`;
  });
  // A grandchild can hold the pipes open for ever, so the end of the output is not waited for without bound.
  const output = Promise.all([captureLines(child.stdout, keep), captureLines(child.stderr, keep)]);
  const ended = exited.then(async (how) => {
    await Promise.race([output, sleep(500, undefined, { ref: false })]);
    return `${program} ${how}`;
  });
  return {
    pid,
    port,
    ended,
    hasEnded: () => over,
    lastLines: () => [...last],
    stop: (withinMs) => stopTree(pid, ended, () => over, withinMs),
  };
}

async function stopTree(pid: number, ended: Promise<string>, isOver: () => boolean, withinMs: number): Promise<void> {
  const family = await descendantsOf(pid);
  if (!isOver()) signal(pid, 'SIGTERM');
  const late = sleep(withinMs, 'late' as const, { ref: false });
  if (!isOver() && (await Promise.race([ended, late])) === 'late') signal(pid, 'SIGKILL');
  // What it started and did not take along is not left behind.
  for (const descendant of family) signal(descendant, 'SIGKILL');
  await ended;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== 'ESRCH') throw err;
  }
}

/** Resolves when the child answers below 500 on one of its usual paths; throws with its last words when it ends first. */
export async function untilServing(chute: ChuteProcess, abort: AbortSignal): Promise<void> {
  for (let pauseMs = READY_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 1.5, LONGEST_READY_PAUSE_MS)) {
    abort.throwIfAborted();
    if (chute.hasEnded()) {
      const how = await chute.ended;
      throw new Error(`the chute ${how} before it served:\n${chute.lastLines().join('\n')}`);
    }
    for (const path of CHILD_READY_PATHS) {
      const status = await statusOf(chute.port, path);
      if (status === null) break; // does not listen yet
      if (status < 500) return;
    }
    await Promise.race([sleep(pauseMs, undefined, { signal: abort }), chute.ended]);
  }
}

async function statusOf(port: number, path: string): Promise<number | null> {
  return new Promise((resolve) => {
    const req = request({ host: '127.0.0.1', port, path, agent: false, timeout: 5000 }, (res) => {
      resolve(res.statusCode ?? 500);
      res.destroy();
    });
    req.on('error', () => resolve(null)).on('timeout', () => req.destroy());
    req.end();
  });
}

/** A port of loopback that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** The reference SDK's own way to serve a chute without a validator, for images that name no command. */
export const referenceCommand = (refStr: string, port: number, loggingPort: number): string[] => [
  'chutes',
  'run',
  refStr,
  '--dev',
  '--host',
  '127.0.0.1',
  '--port',
  String(port),
  '--logging-port',
  String(loggingPort),
];
