import { lookup as lookUp } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { Agent, request } from 'undici';
import { isPublicAddress } from '../../../workflows/domain/nodes/public-address.ts';
import type { Purpose } from '../../../workflows/domain/auth/signing.ts';
import type { Hotkey } from '../../clients/hotkey.ts';

/** `silent`: no connection, no answer in time, or the agent says that it cannot now; `refused`: it said something else. */
export type AgentAnswer<Value> =
  | { kind: 'answered'; value: Value; elapsedMs: number }
  | { kind: 'silent' | 'refused'; detail: string };

export interface AgentAddress {
  host: string;
  port: number;
  minerHotkey: string;
}
export interface AgentCall {
  method: 'GET' | 'POST' | 'DELETE';
  path: string;
  /** a body is signed by its hash, everything else by its purpose */
  body?: unknown;
  purpose?: Purpose;
  withinMs: number;
  maxAnswerBytes: number;
  signal?: AbortSignal;
}

/** Speaks to agents on miners' servers: signed, bounded in time and size, never to an inside address unless allowed. */
export class AgentClient {
  readonly #hotkey: Hotkey;
  readonly #allowPrivateHosts: boolean;
  readonly #dispatcher: Agent;

  constructor({ hotkey, allowPrivateHosts }: { hotkey: Hotkey; allowPrivateHosts: boolean }) {
    this.#hotkey = hotkey;
    this.#allowPrivateHosts = allowPrivateHosts;
    // A name is checked when it is used, not only when it was registered: it may point elsewhere by now.
    this.#dispatcher = new Agent({
      connect: { timeout: 10_000, ...(allowPrivateHosts ? {} : { lookup: publicLookup }) },
      keepAliveTimeout: 1000,
    });
  }

  /** The whole answer as text. Never throws for what the agent does. */
  async call(address: AgentAddress, call: AgentCall): Promise<AgentAnswer<string>> {
    const answer = await this.callForBytes(address, call);
    return answer.kind === 'answered' ? { ...answer, value: answer.value.toString('utf8') } : answer;
  }

  /** The same for an answer that is no text. */
  async callForBytes(
    { host, port, minerHotkey }: AgentAddress,
    { method, path, body, purpose, withinMs, maxAnswerBytes, signal }: AgentCall,
  ): Promise<AgentAnswer<Buffer>> {
    if (!this.#allowPrivateHosts && isIP(host) && !isPublicAddress(host))
      return { kind: 'refused', detail: 'the host is not public' };
    const text = body === undefined ? undefined : JSON.stringify(body);
    const names = { miner: minerHotkey, validator: this.#hotkey.address };
    const signed = text === undefined ? { purpose: purpose ?? 'graval' } : { body: text };
    const deadline = AbortSignal.timeout(withinMs);
    const startedAt = performance.now();
    try {
      const answer = await request(`http://${isIP(host) === 6 ? `[${host}]` : host}:${port}${path}`, {
        method,
        dispatcher: this.#dispatcher,
        headersTimeout: withinMs,
        bodyTimeout: withinMs,
        signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
        headers: {
          ...this.#hotkey.minerHeaders(names, signed),
          ...(text === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(text === undefined ? {} : { body: text }),
      });
      const chunks: Buffer[] = [];
      let size = 0;
      for await (const chunk of answer.body as AsyncIterable<Buffer>) {
        size += chunk.length;
        if (size > maxAnswerBytes)
          return { kind: 'refused', detail: `the agent's answer is larger than ${maxAnswerBytes} bytes` };
        chunks.push(chunk);
      }
      const elapsedMs = performance.now() - startedAt;
      if (answer.statusCode >= 200 && answer.statusCode < 300)
        return { kind: 'answered', value: Buffer.concat(chunks), elapsedMs };
      const isBusy = answer.statusCode >= 500 || answer.statusCode === 429;
      return { kind: isBusy ? 'silent' : 'refused', detail: `the agent answered ${answer.statusCode}` };
    } catch (err) {
      signal?.throwIfAborted();
      return {
        kind: 'silent',
        detail: deadline.aborted ? `no answer within ${withinMs} ms` : `the agent cannot be reached (${codeOf(err)})`,
      };
    }
  }

  async close(): Promise<void> {
    await this.#dispatcher.close();
  }
}

const codeOf = (err: unknown): string =>
  typeof err === 'object' && err !== null && 'code' in err && typeof err.code === 'string'
    ? err.code
    : 'connection failed';

const publicLookup: LookupFunction = (hostname, options, callback) => {
  lookUp(hostname, { ...options, all: true }, (err, addresses) => {
    if (err) return callback(err, '', 0);
    const [first] = addresses;
    if (!first || addresses.some(({ address }) => !isPublicAddress(address)))
      return callback(Object.assign(new Error('the host is not public'), { code: 'HOST_NOT_PUBLIC' }), '', 0);
    if (options.all) callback(null, addresses);
    else callback(null, first.address, first.family);
  });
};
