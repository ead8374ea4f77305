import type { Readable } from 'node:stream';
import { Readable as NodeReadable } from 'node:stream';
import type { Hotkey } from '../../clients/hotkey.ts';
import type { Purpose } from '../../../workflows/domain/auth/signing.ts';

/** The validator said no, or something we do not understand. `retryable`: worth asking again later. */
export class ValidatorError extends Error {
  override readonly name = 'ValidatorError';
  readonly status: number;
  constructor(status: number, call: string, detail: string) {
    super(`validator answered ${status} to ${call}: ${detail}`);
    this.status = status;
  }
  get retryable(): boolean {
    return this.status >= 500 || this.status === 408 || this.status === 429;
  }
}

export type Answer = { status: number; body: unknown };
type Query = Record<string, string | undefined>;

/** The validator's HTTP wire as a miner speaks it: signed requests, event-stream lists (spec/miner.md §3.2). */
export class ValidatorClient {
  readonly #baseUrl: string;
  readonly #hotkey: Hotkey;
  readonly #timeoutMs: number;
  constructor({ baseUrl, hotkey, timeoutMs = 20_000 }: { baseUrl: string; hotkey: Hotkey; timeoutMs?: number }) {
    this.#baseUrl = baseUrl;
    this.#hotkey = hotkey;
    this.#timeoutMs = timeoutMs;
  }

  /** GET or DELETE; signed when the route has a purpose. Any status is an answer; no answer is an error. */
  async ask(
    method: 'GET' | 'DELETE',
    path: string,
    { purpose, query = {} }: { purpose?: Purpose; query?: Query } = {},
  ): Promise<Answer> {
    const response = await fetch(this.#url(path, query), {
      method,
      headers: purpose === undefined ? {} : this.#hotkey.clientHeaders({ purpose }),
      signal: AbortSignal.timeout(this.#timeoutMs),
    });
    return { status: response.status, body: parseJson(await response.text()) };
  }

  /** POST of a JSON body, signed over its bytes. */
  async post(path: string, value: unknown): Promise<Answer> {
    const body = JSON.stringify(value);
    const response = await fetch(this.#url(path), {
      method: 'POST',
      headers: { ...this.#hotkey.clientHeaders({ body }), 'content-type': 'application/json' },
      body,
      signal: AbortSignal.timeout(this.#timeoutMs),
    });
    return { status: response.status, body: parseJson(await response.text()) };
  }

  /** The items of one event-stream list; null when it was empty without saying so: the last view stays (§5.1). */
  async list(path: string, query: Query = {}): Promise<Record<string, unknown>[] | null> {
    const response = await fetch(this.#url(path, query), {
      headers: this.#hotkey.clientHeaders({ purpose: 'miner' }),
      signal: AbortSignal.timeout(this.#timeoutMs * 3),
    });
    const text = await response.text();
    if (response.status !== 200) throw new ValidatorError(response.status, `GET ${path}`, text.slice(0, 300));
    return parseEventStream(text);
  }

  /** Bytes of a GET, for large bodies. */
  async download(path: string, purpose: Purpose, signal?: AbortSignal): Promise<Readable> {
    const response = await fetch(this.#url(path), {
      headers: this.#hotkey.clientHeaders({ purpose }),
      signal: signal ?? null,
    });
    if (response.status !== 200 || !response.body) {
      throw new ValidatorError(response.status, `GET ${path}`, (await response.text()).slice(0, 300));
    }
    return NodeReadable.fromWeb(response.body);
  }

  #url(path: string, query: Query = {}): string {
    const url = new URL(`${this.#baseUrl}${path}`);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, value);
    return url.href;
  }
}

/** `data: {json}` lines; `NO_ITEMS` states an explicit empty list; nothing at all states nothing. */
export function parseEventStream(text: string): Record<string, unknown>[] | null {
  const items: Record<string, unknown>[] = [];
  let isExplicit = false;
  for (const line of text.split('\n')) {
    if (line.trim() === 'data: NO_ITEMS') isExplicit = true;
    else if (line.startsWith('data: {')) items.push(parseJson(line.slice('data: '.length)) as Record<string, unknown>);
  }
  return items.length > 0 || isExplicit ? items : null;
}

/** A node's seed passes 2^53: it stays text. What is not JSON stays text too. */
function parseJson(text: string): unknown {
  const keepSeeds = (key: string, value: unknown, context?: { source?: string }): unknown =>
    key === 'seed' && typeof value === 'number' ? (context?.source ?? String(value)) : value;
  try {
    return JSON.parse(text, keepSeeds) as unknown;
  } catch {
    return text;
  }
}

/** The `detail` of an error answer, as one line. */
export function detailOf({ body }: Answer): string {
  const detail = typeof body === 'object' && body !== null && 'detail' in body ? body.detail : body;
  return (typeof detail === 'string' ? detail : JSON.stringify(detail ?? null)).slice(0, 300);
}

/** The answer's body when its status is one of `ok`; an error that says which call failed otherwise. */
export function expectStatus(answer: Answer, call: string, ok: readonly number[]): unknown {
  if (!ok.includes(answer.status)) throw new ValidatorError(answer.status, call, detailOf(answer));
  return answer.body;
}
