import { spawn } from 'node:child_process';
import { GravalError, writeProofFile, type GravalVerdict, type RecordedProof } from './graval-proof-file.ts';
import { startGravalSession, type GravalSession } from './graval-session.ts';

export interface GravalDevice {
  index: number;
  name: string;
  uuid: string;
  memoryBytes: number;
  processors: number;
  clockKhz: number;
  major: number;
  minor: number;
  maxThreadsPerProcessor: number;
}
export interface GravalInfo {
  proofVersion: string;
  cuda: boolean;
  devices: GravalDevice[];
}

/**
 * The program `graval` (docs/proof.md): prover and verifier in a process of their own. A crash, an exit or output that is not
 * its protocol is a `GravalError`: a failed attempt of the caller, who may try again with a fresh process.
 */
export interface GravalClient {
  info: (signal?: AbortSignal) => Promise<GravalInfo>;
  verify: (proof: RecordedProof, signal?: AbortSignal) => Promise<GravalVerdict>;
  /** A long-lived prover, one launch's memory each; the caller closes it. */
  serve: () => GravalSession;
}

/** binary: path of the program. Nothing runs until asked. */
export function createGravalClient({ binary }: { binary: string }): GravalClient {
  return {
    info: async (signal) => infoOf(await runGraval(binary, ['info', '--json'], null, signal)),
    verify: async (proof, signal) =>
      verdictOf(await runGraval(binary, ['verify', '-', '--json'], writeProofFile(proof), signal)),
    serve: () => startGravalSession(binary),
  };
}

interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs to its end, however it ends; rejects when it cannot start, is aborted, or writes without end. */
async function runGraval(
  binary: string,
  args: string[],
  input: Uint8Array | null,
  signal?: AbortSignal,
): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(binary, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      killSignal: 'SIGKILL',
      ...(signal ? { signal } : {}),
    });
    const text = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].setEncoding('utf8').on('data', (chunk: string) => {
        text[name] += chunk;
        if (text[name].length > 1_000_000) child.kill('SIGKILL');
      });
    }
    child.on('error', (err) =>
      reject(signal?.aborted ? err : new GravalError(`${binary} does not run`, { cause: err })),
    );
    child.on('close', (code) => resolve({ code, ...text }));
    child.stdin.on('error', () => {}); // it ended before it read everything: its exit status says why
    child.stdin.end(input ?? undefined);
  });
}

function verdictOf(finished: Finished): GravalVerdict {
  const fields = finished.code === 0 || finished.code === 2 ? jsonOf(finished) : {};
  if (finished.code === 0 && fields.verified === true && Number.isSafeInteger(fields.samples)) {
    return { verified: true, samplesChecked: fields.samples as number };
  }
  if (finished.code === 2 && fields.verified === false && typeof fields.reason === 'string') {
    return { verified: false, reason: fields.reason };
  }
  throw failureOf('verify', finished);
}

function infoOf(finished: Finished): GravalInfo {
  const fields = finished.code === 0 ? jsonOf(finished) : {};
  const { proof_version: proofVersion, cuda, devices } = fields;
  if (typeof proofVersion !== 'string' || typeof cuda !== 'boolean' || !Array.isArray(devices))
    throw failureOf('info', finished);
  return { proofVersion, cuda, devices: devices.map((device) => deviceOf(fieldsOf(device), finished)) };
}

function deviceOf(fields: Partial<Record<string, unknown>>, finished: Finished): GravalDevice {
  const number = (name: string): number => {
    const value = fields[name];
    if (typeof value !== 'number') throw failureOf('info', finished);
    return value;
  };
  const text = (name: string): string => {
    const value = fields[name];
    if (typeof value !== 'string') throw failureOf('info', finished);
    return value;
  };
  return {
    index: number('index'),
    name: text('name'),
    uuid: text('uuid'),
    memoryBytes: number('memory_bytes'),
    processors: number('processors'),
    clockKhz: number('clock_khz'),
    major: number('major'),
    minor: number('minor'),
    maxThreadsPerProcessor: number('max_threads_per_processor'),
  };
}

function jsonOf(finished: Finished): Partial<Record<string, unknown>> {
  try {
    return fieldsOf(JSON.parse(finished.stdout));
  } catch {
    return {};
  }
}
const fieldsOf = (value: unknown): Partial<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? value : {};

const failureOf = (command: string, { code, stderr }: Finished): GravalError =>
  new GravalError(`graval ${command} ended with ${code ?? 'a signal'}: ${stderr.trim().slice(-300)}`);
