import { randomUUID } from 'node:crypto';
import type { Spool } from '../../activities/validator/invocations/spool.ts';
import { BASIS_MICRO_USD_PER_HOUR } from '../../workflows/domain/gpus/gpu-table.ts';
import { NO_RATES, usableRates, withAnswer, type ChuteRates } from '../../workflows/domain/metering/chute-rates.ts';
import { metricsOf } from '../../workflows/domain/metering/metrics.ts';
import { clipError, type InvocationRecord, type Metrics } from '../../workflows/domain/metering/record.ts';
import { believedUsage } from '../../workflows/domain/openai/usage.ts';
import { priceCall } from '../../workflows/domain/pricing/price.ts';
import type { Accounts } from './accounts.ts';
import type { AdmittedCall } from './call.ts';
import type { Observed } from './observe-answer.ts';
import type { LiveInstance } from './routing-table.ts';

/** One try at one instance. Durations come from a monotonic clock, the moment it began from the calendar. */
export interface Attempt {
  id: string;
  call: AdmittedCall;
  instance: LiveInstance;
  startedAtMs: number;
  startedTick: number;
  meanConnections: number;
}

/** Turns attempts into records: what was used, what it costs, who is paid. Nothing is answered before its record is spooled. */
export class Meter {
  readonly #spool: Spool;
  readonly #accounts: Accounts;
  readonly #rates = new Map<string, ChuteRates>();
  #keys = new Set<string>();

  constructor(spool: Spool, accounts: Accounts) {
    this.#spool = spool;
    this.#accounts = accounts;
  }

  begin(call: AdmittedCall, instance: LiveInstance, meanConnections: number): Attempt {
    return {
      id: randomUUID(),
      call,
      instance,
      startedAtMs: Date.now(),
      startedTick: performance.now(),
      meanConnections,
    };
  }

  failed(attempt: Attempt, error: string): void {
    this.#append(attempt, performance.now() - attempt.startedTick, { error, metrics: {}, amountMicroUsd: 0 });
  }

  served(
    attempt: Attempt,
    { firstByteTick, observed, isStream }: { firstByteTick: number; observed: Observed | null; isStream: boolean },
  ): void {
    const { call, instance } = attempt;
    const { chute, user } = call;
    const durationMs = performance.now() - attempt.startedTick;
    const firstByteMs = firstByteTick - attempt.startedTick;
    const usage =
      observed &&
      believedUsage(observed.claimed, { promptCharacters: call.promptCharacters, outputTokens: observed.outputTokens });
    if (usage && isStream) {
      const before = this.#rates.get(chute.chuteId) ?? NO_RATES;
      this.#rates.set(chute.chuteId, withAnswer(before, { atMs: Date.now(), ...usage, firstByteMs, durationMs }));
    }
    const metrics = metricsOf(
      {
        durationMs,
        firstByteMs,
        isStream,
        usage,
        chunks: observed?.chunks ?? null,
        steps: call.steps,
        meanConnections: attempt.meanConnections,
        isPrivate: !chute.isPublic,
      },
      usableRates(this.#rates.get(chute.chuteId) ?? NO_RATES),
    );
    const amountMicroUsd = priceCall({
      template: chute.template,
      isFree: call.isFree,
      isPublic: chute.isPublic,
      callerIsOwner: chute.ownerId === user.userId,
      discount: chute.discount,
      hourlyMicroUsd: chute.hourlyMicroUsd ?? Math.round(instance.computeMultiplier * BASIS_MICRO_USD_PER_HOUR),
      basisMicroUsdPerHour: BASIS_MICRO_USD_PER_HOUR,
      computeMultiplier: instance.computeMultiplier,
      durationMs,
      tokens: usage && { input: usage.inputTokens, output: usage.outputTokens },
      steps: call.steps,
    });
    this.#append(attempt, durationMs, { error: null, metrics, amountMicroUsd });
  }

  sawKey(keyId: string): void {
    this.#keys.add(keyId);
  }
  takeKeys(): string[] {
    const keys = [...this.#keys];
    this.#keys = new Set();
    return keys;
  }

  #append(
    attempt: Attempt,
    durationMs: number,
    result: { error: string | null; metrics: Metrics; amountMicroUsd: number },
  ): void {
    const { id, call, instance, startedAtMs } = attempt;
    const { chute, cord, user } = call;
    const counts = result.error === null ? call.quota : null;
    const record: InvocationRecord = {
      invocationId: id,
      parentInvocationId: call.invocationId,
      userId: user.userId,
      chuteId: chute.chuteId,
      chuteUserId: chute.ownerId,
      functionName: cord.function,
      imageId: chute.imageId,
      imageUserId: chute.imageOwnerId,
      instanceId: instance.instanceId,
      minerUid: instance.minerUid,
      minerHotkey: instance.minerHotkey,
      startedAtMs,
      completedAtMs: Math.round(startedAtMs + durationMs),
      errorMessage: result.error === null ? null : clipError(result.error),
      computeMultiplier: instance.computeMultiplier,
      metrics: result.metrics,
      isFree: call.isFree,
      amountMicroUsd: result.amountMicroUsd,
      creditUserId: chute.isPublic || chute.ownerId === user.userId ? null : chute.ownerId,
      quota: counts,
    };
    this.#spool.append(record);
    this.#accounts.onSpooled(record);
  }
}
