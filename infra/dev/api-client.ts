import type { Hotkey } from '../../activities/clients/hotkey.ts';
import type { Purpose } from '../../workflows/domain/auth/signing.ts';

/** A non-2xx answer, with what the server said. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly detail: string;
  constructor(method: string, path: string, status: number, detail: string) {
    super(`${method} ${path} answered ${status}: ${detail}`);
    this.status = status;
    this.detail = detail;
  }
}

type Body = { json: unknown } | { bytes: Uint8Array; contentType: string };

/** Signed calls as the SDK (`client`) or as a miner's operator (`management`) makes them. */
export class ApiClient {
  readonly #base: string;
  readonly #hotkey: Hotkey;
  readonly #kind: 'client' | 'management';
  constructor(base: string, hotkey: Hotkey, kind: 'client' | 'management' = 'client') {
    this.#base = base;
    this.#hotkey = hotkey;
    this.#kind = kind;
  }

  async request(method: string, path: string, covered: { purpose: Purpose } | Body): Promise<Response> {
    const body =
      'purpose' in covered
        ? null
        : 'json' in covered
          ? Buffer.from(JSON.stringify(covered.json))
          : Buffer.from(covered.bytes);
    const signed = body ? { body } : { purpose: (covered as { purpose: Purpose }).purpose };
    const self = this.#hotkey.address;
    const headers: Record<string, string> =
      this.#kind === 'client'
        ? this.#hotkey.clientHeaders(signed)
        : this.#hotkey.minerHeaders({ miner: self, validator: self }, signed);
    if (body) headers['content-type'] = 'bytes' in covered ? covered.contentType : 'application/json';
    const response = await fetch(this.#base + path, { method, headers, ...(body ? { body } : {}) });
    if (!response.ok) throw new ApiError(method, path, response.status, detailOf(await response.text()));
    return response;
  }

  async get<Result>(path: string, purpose: Purpose): Promise<Result> {
    return (await (await this.request('GET', path, { purpose })).json()) as Result;
  }
  async post<Result>(path: string, json: unknown): Promise<Result> {
    return (await (await this.request('POST', path, { json })).json()) as Result;
  }
  async delete(path: string, purpose: Purpose): Promise<void> {
    await (await this.request('DELETE', path, { purpose })).arrayBuffer();
  }
}

function detailOf(text: string): string {
  try {
    const { detail } = JSON.parse(text) as { detail?: unknown };
    return typeof detail === 'string' ? detail : JSON.stringify(detail ?? text);
  } catch {
    return text.slice(0, 500);
  }
}

/** Lines of a streamed answer, as they come. */
export async function* linesOf(response: Response): AsyncGenerator<string> {
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    rest += decoder.decode(chunk as Uint8Array, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
  if (rest) yield rest;
}
