import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import {
  REQUEST_ID_HEADER,
  RUNTIME_HEADER,
  RUNTIME_REFUSED,
} from '../../workflows/domain/protocol/canopy-transport.ts';
import { chooseInstance } from '../../workflows/domain/routing/choose-instance.ts';
import { judgeAnswer } from '../../workflows/domain/routing/judge-answer.ts';
import { CallRefused, type AdmittedCall, type CallDeps } from './call.ts';
import { headersFromInstance } from './headers.ts';
import type { Attempt } from './meter.ts';
import { observeJson, observeStream, type AnswerObserver, type Observed } from './observe-answer.ts';
import type { LiveInstance } from './routing-table.ts';
import { InstanceUnreachable, type InstanceAnswer } from './transport.ts';

type AttemptResult = 'answered' | 'rate_limited' | 'failed';

/** Tries instances until one answers; never a second one after the first byte went to the client. Throws `CallRefused`. */
export async function attemptCall(res: ServerResponse, call: AdmittedCall, deps: CallDeps): Promise<void> {
  const { table, load } = deps;
  const client = new AbortController();
  const onClose = (): void => {
    if (!res.writableFinished) client.abort();
  };
  res.once('close', onClose);
  const tried = new Set<string>();
  let hasFailed = false;
  try {
    for (;;) {
      const instances = table.instancesOf(call.chute.chuteId);
      const candidates = instances.map((instance) => load.candidate(instance.instanceId));
      const choice = chooseInstance(candidates, {
        tried,
        concurrency: call.chute.concurrency,
        nowMs: Date.now(),
        random: [Math.random(), Math.random()],
      });
      const instance =
        choice.kind === 'chosen' ? instances.find(({ instanceId }) => instanceId === choice.instanceId) : undefined;
      if (!instance) throw refusal(choice.kind, { hasFailed, hasTried: tried.size > 0 });
      tried.add(instance.instanceId);
      const meanConnections = Math.floor(
        candidates.reduce((sum, { inFlight }) => sum + inFlight, 0) / candidates.length,
      );
      load.begin(instance.instanceId);
      const result = await attemptInstance(
        res,
        deps.meter.begin(call, instance, meanConnections),
        client.signal,
        deps,
      ).finally(() => load.end(instance.instanceId));
      deps.metrics.attempts.inc({ outcome: result });
      if (result === 'answered') return;
      hasFailed ||= result === 'failed';
    }
  } finally {
    res.removeListener('close', onClose);
  }
}

function refusal(
  kind: 'chosen' | 'none' | 'full' | 'exhausted',
  { hasFailed, hasTried }: { hasFailed: boolean; hasTried: boolean },
): CallRefused {
  if (kind === 'none' && !hasTried) {
    return new CallRefused({
      code: 'cold_start',
      message: 'No instance of this chute is running yet. Try again shortly.',
      retryAfterS: 10,
    });
  }
  if (kind === 'full' || !hasFailed) {
    return new CallRefused({
      code: 'capacity',
      message: 'Every instance of this chute is at its maximum capacity. Try again later.',
      retryAfterS: 1,
    });
  }
  return new CallRefused({ code: 'upstream_failed', message: 'Every instance that was tried failed to answer.' });
}

async function attemptInstance(
  res: ServerResponse,
  attempt: Attempt,
  client: AbortSignal,
  deps: CallDeps,
): Promise<AttemptResult> {
  const { call, instance } = attempt;
  const { transport, meter, metrics, settings } = deps;
  const abort = new AbortController();
  const onClient = (): void => abort.abort();
  let isLate = false;
  const late = setTimeout(() => {
    isLate = true;
    abort.abort();
  }, settings.attemptTimeoutMs);
  client.addEventListener('abort', onClient, { once: true });

  const fail = (error: string, isBlamed = true): AttemptResult => {
    if (client.aborted) {
      meter.failed(attempt, 'CLIENT_CANCELLED');
      return 'answered';
    }
    meter.failed(attempt, error);
    if (isBlamed) blame(instance, error, deps);
    return isBlamed ? 'failed' : 'rate_limited';
  };

  try {
    let answer: InstanceAnswer;
    let chunks: AsyncIterator<Buffer>;
    let first: IteratorResult<Buffer>;
    try {
      if (client.aborted) return fail('CLIENT_CANCELLED');
      answer = await transport.call(instance, {
        method: call.method,
        path: call.path,
        body: call.body,
        signal: abort.signal,
        headers: { ...call.headers, [REQUEST_ID_HEADER]: attempt.id },
      });
      const verdict = judgeAnswer(answer.statusCode, answer.headers[RUNTIME_HEADER] === RUNTIME_REFUSED);
      if (verdict.kind === 'next') {
        void answer.body.dump({ limit: 65_536 }).catch(() => {}); // frees the connection; what it says is not shown
        return fail(verdict.error, verdict.blamed);
      }
      chunks = answer.body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
      first = await chunks.next();
    } catch (err) {
      return fail(isLate ? 'timed out' : describe(err));
    }
    const isStream = String(answer.headers['content-type'] ?? '').includes('text/event-stream');
    if (first.done && isStream && answer.statusCode === 200) return fail('EMPTY_STREAM');
    metrics.firstByte.observe((performance.now() - attempt.startedTick) / 1000);
    await relay(res, attempt, { answer, chunks, first, isStream }, { client, isLate: () => isLate }, deps);
    return 'answered';
  } finally {
    clearTimeout(late);
    client.removeEventListener('abort', onClient);
  }
}

function blame(instance: LiveInstance, error: string, { load, log }: CallDeps): void {
  load.failed(instance.instanceId, Date.now());
  log.warn(
    { event: 'instance.failed', instanceId: instance.instanceId, chuteId: instance.chuteId, error },
    'instance.failed',
  );
}

interface Relayed {
  answer: InstanceAnswer;
  chunks: AsyncIterator<Buffer>;
  first: IteratorResult<Buffer>;
  isStream: boolean;
}

/** Passes the answer on as it comes. The record is spooled before the byte that tells the client it has everything. */
async function relay(
  res: ServerResponse,
  attempt: Attempt,
  { answer, chunks, first, isStream }: Relayed,
  state: { client: AbortSignal; isLate: () => boolean },
  deps: CallDeps,
): Promise<void> {
  const { meter, load } = deps;
  const { call, instance } = attempt;
  const firstByteTick = performance.now();
  const observer = observerFor(call, isStream, answer.statusCode);
  let isRecorded = false;
  const record = (error: string | null): void => {
    if (isRecorded) return;
    isRecorded = true;
    if (error !== null) return meter.failed(attempt, error);
    const observed: Observed | null = observer?.finish() ?? null;
    meter.served(attempt, { firstByteTick, observed, isStream });
    load.succeeded(instance.instanceId);
    call.quota = null; // counted by its record; a call is counted once
  };
  const outcome = answer.statusCode >= 400 ? 'BAD_REQUEST' : null;
  const length = answer.headers['content-length'] === undefined ? null : Number(answer.headers['content-length']);
  let received = 0;
  res.writeHead(answer.statusCode, headersFromInstance(answer.headers));
  try {
    for (let next = first; !next.done; next = await chunks.next()) {
      const chunk = next.value;
      received += chunk.length;
      observer?.push(chunk);
      const isLast = received === length;
      if (isLast || observer?.isDone) record(outcome);
      if (isLast) {
        res.end(chunk);
      } else if (!res.write(chunk) && !res.destroyed) {
        // the client reads slower than the instance writes: so do we
        await once(res, 'drain', { signal: state.client }).catch(() => {});
      }
      if (state.client.aborted) break;
    }
    // A client that left midway has had what was generated: it is metered like an answer.
    record(outcome);
    if (!res.writableEnded) res.end();
  } catch (err) {
    if (state.client.aborted) return record(outcome);
    if (isRecorded) return void (res.writableEnded || res.end()); // it had said that it was complete
    const error = state.isLate() ? 'timed out' : describe(err);
    record(`ended early: ${error}`);
    blame(instance, error, deps);
    breakOff(res, isStream);
  }
}

function observerFor(call: AdmittedCall, isStream: boolean, status: number): AnswerObserver | null {
  if (status >= 400 || !(call.isOpenAi || call.chute.template === 'vllm' || call.chute.template === 'embedding'))
    return null;
  return isStream ? observeStream() : observeJson();
}

/** The head said 200 long ago: a stream says what happened in its own words, anything else is cut off. */
function breakOff(res: ServerResponse, isStream: boolean): void {
  if (!isStream) return void res.destroy();
  const error = {
    message: 'The instance stopped before the answer was complete.',
    type: 'server_error',
    param: null,
    code: 'upstream_failed',
  };
  res.end(`data: ${JSON.stringify({ error })}\n\n`);
}

/** What went wrong, without the instance's address. */
function describe(err: unknown): string {
  if (err instanceof InstanceUnreachable) return err.message;
  const code = err instanceof Error && 'code' in err && typeof err.code === 'string' ? err.code : null;
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') return 'timed out';
  if (code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE') return 'connection closed';
  return code ?? 'connection failed';
}
