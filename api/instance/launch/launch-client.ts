import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type {
  ClaimAnswer,
  LaunchClaim,
  LaunchProof,
  PovwCommit,
  PovwCommitAnswer,
  PovwWalk,
  PovwWalkAnswer,
  VerifyAnswer,
} from '../../../workflows/domain/protocol/launch.ts';

/** The validator said no: asking again would not change it. */
export class LaunchRefused extends Error {
  override readonly name = 'LaunchRefused';
  readonly status: number;
  constructor(step: string, status: number, detail: string) {
    super(`${step} was refused with ${status}: ${detail}`);
    this.status = status;
  }
}

export interface LaunchClientOptions {
  /** `url` claim of the token */
  url: string;
  token: string;
  log: Logger;
  signal: AbortSignal;
  /** first pause between two tries, doubled up to 16 times */
  backoffMs?: number;
  /** longest a single answer may take; verification is the slow one */
  answerWithinMs?: number;
}

const ACTIVATION_TRIES = 10;
const NEVER_AGAIN = [404, 410, 423];

/** The launch conversation as an instance holds it. Network faults, 429 and 5xx are tried again until `deadlineAt`. */
export class LaunchClient {
  readonly #options: Required<LaunchClientOptions>;
  constructor(options: LaunchClientOptions) {
    this.#options = { backoffMs: 250, answerWithinMs: 290_000, ...options };
  }
  claim = (body: LaunchClaim, deadlineAt: number) => this.#ask<ClaimAnswer>('claim', 'POST', '', body, deadlineAt);
  commit = (body: PovwCommit, deadlineAt: number) =>
    this.#ask<PovwCommitAnswer>('commit', 'POST', '/povw/commit', body, deadlineAt);
  walk = (body: PovwWalk, deadlineAt: number) =>
    this.#ask<PovwWalkAnswer>('walk', 'POST', '/povw/walk', body, deadlineAt);
  /** One GPU's openings; returns the SHA-256 of what arrived, which is what was sent. */
  async putOpenings(gpuUuid: string, bytes: Uint8Array, deadlineAt: number): Promise<string> {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const answer = await this.#ask<{ sha256: string }>(
      'openings',
      'PUT',
      `/povw/openings/${gpuUuid}`,
      bytes,
      deadlineAt,
    );
    if (answer.sha256 !== sha256) throw new Error(`the openings of GPU ${gpuUuid} arrived changed`);
    return sha256;
  }
  verify = (body: LaunchProof, deadlineAt: number) => this.#ask<VerifyAnswer>('verify', 'PUT', '', body, deadlineAt);

  /** Ten tries, waiting n seconds before the n-th; 423 and 410 end it at once (spec/validator-api.md §2.6.4). */
  async activate(): Promise<void> {
    const { log, signal, backoffMs } = this.#options;
    for (let attempt = 0; ; attempt++) {
      await sleep(attempt * backoffMs * 4, undefined, { signal });
      try {
        await this.#send('activate', 'GET', '/activate', undefined);
        return;
      } catch (err) {
        signal.throwIfAborted();
        const final = err instanceof LaunchRefused && NEVER_AGAIN.includes(err.status);
        if (final || attempt + 1 >= ACTIVATION_TRIES) throw err;
        log.warn({ event: 'activation.retried', attempt, reason: (err as Error).message }, 'activation.retried');
      }
    }
  }

  async #ask<Answer>(step: string, method: string, path: string, body: unknown, deadlineAt: number): Promise<Answer> {
    const { log, signal, backoffMs } = this.#options;
    for (let attempt = 0; ; attempt++) {
      try {
        return (await this.#send(step, method, path, body)) as Answer;
      } catch (err) {
        signal.throwIfAborted();
        const isFinal = err instanceof LaunchRefused && err.status !== 429 && err.status < 500;
        // Jittered: instances of one server start together and would retry together.
        const pauseMs = backoffMs * 2 ** Math.min(attempt, 4) * (0.5 + Math.random());
        if (isFinal || Date.now() + pauseMs >= deadlineAt) throw err;
        log.warn(
          { event: 'launch.retried', step, attempt, pauseMs: Math.round(pauseMs), reason: (err as Error).message },
          'launch.retried',
        );
        await sleep(pauseMs, undefined, { signal });
      }
    }
  }

  async #send(step: string, method: string, path: string, body: unknown): Promise<unknown> {
    const { url, token, signal, answerWithinMs } = this.#options;
    const init: RequestInit = {
      method,
      headers: { authorization: token },
      signal: AbortSignal.any([signal, AbortSignal.timeout(answerWithinMs)]),
      redirect: 'error', // a redirect would carry the token to somewhere else
    };
    if (ArrayBuffer.isView(body)) {
      init.headers = { authorization: token, 'content-type': 'application/octet-stream' };
      init.body = body as Uint8Array<ArrayBuffer>;
    } else if (body !== undefined) {
      init.headers = { authorization: token, 'content-type': 'application/json' };
      init.body = JSON.stringify(body);
    }
    const response = await fetch(`${url}${path}`, init);
    const text = await response.text();
    if (!response.ok) throw new LaunchRefused(step, response.status, detailOf(text));
    try {
      return JSON.parse(text) as unknown;
    } catch (err) {
      throw new Error(`${step}: the answer is not JSON`, { cause: err });
    }
  }
}

function detailOf(text: string): string {
  try {
    const { detail } = JSON.parse(text) as { detail?: unknown };
    if (detail !== undefined) return typeof detail === 'string' ? detail : JSON.stringify(detail);
  } catch {
    // not ours: shown as it is
  }
  return text.slice(0, 300);
}
