import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { concatBytes, u32le } from '../../workflows/domain/proof/bytes.ts';
import { GravalError, profileBytes, samplesBytes, writeProofFile } from './graval-proof-file.ts';
import type { GravalProfile, GravalSamples, GravalVerdict, RecordedProof } from './graval-proof-file.ts';

/** One `graval serve` process: frames of docs/proof.md "Serve protocol". Requests are answered in order. */
export interface GravalSession {
  /** device: index, or −1 for the CPU reference. Takes the memory. */
  begin: (input: { device: number; profile: GravalProfile; seed: Uint8Array }) => Promise<void>;
  /** R */
  commit: () => Promise<Uint8Array>;
  walk: (nonce2: Uint8Array) => Promise<{ digest: Uint8Array; traceRoot: Uint8Array }>;
  /** the openings in their binary form */
  open: (samples: GravalSamples) => Promise<Uint8Array>;
  /** gives the memory back; the process stays for another begin */
  end: () => Promise<void>;
  verify: (proof: RecordedProof) => Promise<GravalVerdict>;
  selftest: (device: number) => Promise<void>;
  /** Ends the process, whatever it is doing; what was asked and not answered fails. */
  close: () => Promise<void>;
}

const VERSION = 2;
const VERBS = { begin: 1, commit: 2, walk: 3, open: 4, end: 5, verify: 6, selftest: 7 } as const;
/** By number, as in gpu/include/graval.h. */
const STATUSES = [
  'ok',
  'invalid_argument',
  'out_of_order',
  'out_of_memory',
  'no_device',
  'device_fault',
  'buffer_too_small',
  'refused',
];
const FAULTS = [
  'none', 'challenge_malformed', 'samples_malformed', 'openings_malformed', 'fill_row_not_committed', 'fill_seed_block_differs',
  'fill_entry_differs', 'walk_leaf_not_committed', 'walk_start_differs', 'walk_digest_differs',
  'walk_row_not_committed', 'walk_entry_differs',
]; // prettier-ignore
const REPLY_LIMIT = 1 << 30;

interface Waiting {
  resolve: (reply: { status: string; body: Uint8Array }) => void;
  reject: (err: Error) => void;
}

export function startGravalSession(binary: string): GravalSession {
  const child: ChildProcessWithoutNullStreams = spawn(binary, ['serve'], { stdio: ['pipe', 'pipe', 'pipe'] });
  const waiting: Waiting[] = [];
  let failure: GravalError | null = null;
  let stderr = '';
  const fail = (message: string, cause?: unknown) => {
    failure ??= new GravalError(message, { cause });
    for (const { reject } of waiting.splice(0)) reject(failure);
    child.kill('SIGKILL');
  };
  child.on('error', (err) => fail(`${binary} does not run`, err));
  const closed = new Promise<void>((resolve) => {
    child.on('close', (code, signal) => {
      fail(`graval serve ended with ${signal ?? code}: ${stderr.trim().slice(-300)}`);
      resolve();
    });
  });
  child.stdin.on('error', () => {}); // 'close' says why
  child.stderr.setEncoding('utf8').on('data', (text: string) => void (stderr = (stderr + text).slice(-1000)));

  const arrived = new Frames();
  child.stdout.on('data', (chunk: Buffer) => {
    arrived.push(chunk);
    for (;;) {
      const frame = arrived.next();
      if (frame === null) return;
      const [asked] = waiting;
      const status = frame === 'malformed' ? undefined : STATUSES[frame[0] ?? -1];
      if (frame === 'malformed' || status === undefined || !asked)
        return fail('graval serve does not speak its protocol');
      waiting.shift();
      asked.resolve({ status, body: frame.subarray(1) });
    }
  });

  const ask = (verb: keyof typeof VERBS, ...parts: Uint8Array[]) =>
    new Promise<{ status: string; body: Uint8Array }>((resolve, reject) => {
      if (failure) return reject(failure);
      const body = concatBytes(...parts);
      waiting.push({ resolve, reject });
      child.stdin.write(concatBytes(u32le(2 + body.length), new Uint8Array([VERSION, VERBS[verb]]), body));
    });
  /** The reply's body, of `length` bytes where it is known. */
  const demand = async (
    verb: keyof typeof VERBS,
    length: number | null,
    ...parts: Uint8Array[]
  ): Promise<Uint8Array> => {
    const { status, body } = await ask(verb, ...parts);
    if (status !== 'ok') throw new GravalError(`graval ${verb}: ${status}`);
    if (length !== null && body.length !== length)
      throw new GravalError(`graval ${verb} answered ${body.length} bytes`);
    return body;
  };

  return {
    begin: async ({ device, profile, seed }) =>
      void (await demand('begin', 0, u32le(device), profileBytes(profile), seed)),
    commit: () => demand('commit', 32),
    walk: async (nonce2) => {
      const body = await demand('walk', 64, nonce2);
      return { digest: body.subarray(0, 32), traceRoot: body.subarray(32) };
    },
    open: (samples) => demand('open', null, samplesBytes(samples)),
    end: async () => void (await demand('end', 0)),
    verify: async (proof) => {
      const { status, body } = await ask('verify', writeProofFile(proof));
      const reason = FAULTS[body[0] ?? 0];
      if (status === 'ok')
        return { verified: true, samplesChecked: proof.samples.fill.length + proof.samples.walk.length };
      if (status === 'refused' && body.length === 1 && reason !== undefined) return { verified: false, reason };
      throw new GravalError(`graval verify: ${status}`);
    },
    selftest: async (device) => void (await demand('selftest', 0, u32le(device))),
    close: async () => {
      child.kill('SIGKILL');
      await closed;
    },
  };
}

/** Cuts what arrives into replies without copying a large one again with every chunk. */
class Frames {
  readonly #chunks: Buffer[] = [];
  #size = 0;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
  }

  /** A reply after its length field, null until it is whole. */
  next(): Buffer | 'malformed' | null {
    if (this.#size < 4) return null;
    const [first] = this.#chunks;
    const length = (first && first.length >= 4 ? first : this.#joined()).readUInt32LE(0);
    if (length < 1 || length > REPLY_LIMIT) return 'malformed';
    if (this.#size < 4 + length) return null;
    const all = this.#joined();
    this.#chunks.splice(0, this.#chunks.length, all.subarray(4 + length));
    this.#size -= 4 + length;
    return all.subarray(4, 4 + length);
  }

  #joined(): Buffer {
    const all = this.#chunks.length === 1 && this.#chunks[0] ? this.#chunks[0] : Buffer.concat(this.#chunks);
    this.#chunks.splice(0, this.#chunks.length, all);
    return all;
  }
}
