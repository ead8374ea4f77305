import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { Transform } from 'node:stream';
import { errorCode } from './error-code.ts';

export interface ContainedCommand {
  command: string[];
  cwd: string;
  /** the whole environment: nothing is inherited */
  env: Record<string, string>;
  signal: AbortSignal;
  onLine: (logType: 'stdout' | 'stderr', line: string) => void;
  /** called after the process ended or was killed, before this returns: ends what the group kill cannot reach */
  sweep?: () => Promise<void>;
}

/** A line that never ends is broken up here, before it fills the memory. */
const MAX_LINE_BYTES = 16_384;

/**
 * Runs a command in a process group of its own and returns its exit code (null: killed). On abort the whole group is
 * killed at once, then the signal's reason is thrown. Children that keep the pipes open are not waited for.
 */
export async function runContained({
  command,
  cwd,
  env,
  signal,
  onLine,
  sweep,
}: ContainedCommand): Promise<number | null> {
  signal.throwIfAborted();
  const [program, ...args] = command;
  if (!program) throw new Error('no command');
  const child = spawn(program, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  const kill = (): void => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch (err) {
      if (errorCode(err) !== 'ESRCH') throw err;
    }
  };
  signal.addEventListener('abort', kill, { once: true });
  const reading = [read(child.stdout, 'stdout', onLine), read(child.stderr, 'stderr', onLine)];
  try {
    const [code] = (await once(child, 'exit')) as [number | null];
    kill(); // what it started in the background ends with it
    await sweep?.();
    await Promise.race([Promise.all(reading), new Promise((resolve) => setTimeout(resolve, 1_000))]);
    signal.throwIfAborted();
    return code;
  } finally {
    signal.removeEventListener('abort', kill);
    child.stdout.destroy();
    child.stderr.destroy();
  }
}

async function read(stream: Readable, logType: 'stdout' | 'stderr', onLine: ContainedCommand['onLine']): Promise<void> {
  let column = 0;
  const bounded = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      let from = 0;
      for (let at = 0; at < chunk.length; at++) {
        if (chunk[at] === 10) column = 0;
        else if (++column >= MAX_LINE_BYTES) {
          this.push(chunk.subarray(from, at + 1));
          this.push('\n');
          from = at + 1;
          column = 0;
        }
      }
      done(null, chunk.subarray(from));
    },
  });
  stream.on('error', () => bounded.end());
  stream.on('close', () => bounded.end());
  for await (const line of createInterface({ input: stream.pipe(bounded), crlfDelay: Infinity })) onLine(logType, line);
}
