import { pauseMs, type Candidate } from '../../workflows/domain/routing/choose-instance.ts';

interface Load {
  inFlight: number;
  consecutiveFailures: number;
  pausedUntilMs: number;
}
interface Outcome {
  failures: number;
  succeeded: boolean;
}

/** Requests under way and recent failures of each instance, as this gateway sees them. */
export class InstanceLoad {
  readonly #loads = new Map<string, Load>();
  #outcomes = new Map<string, Outcome>();

  candidate(instanceId: string): Candidate {
    const load = this.#loads.get(instanceId);
    return { instanceId, inFlight: load?.inFlight ?? 0, pausedUntilMs: load?.pausedUntilMs ?? 0 };
  }

  begin(instanceId: string): void {
    this.#of(instanceId).inFlight += 1;
  }
  end(instanceId: string): void {
    this.#of(instanceId).inFlight -= 1;
  }

  succeeded(instanceId: string): void {
    Object.assign(this.#of(instanceId), { consecutiveFailures: 0, pausedUntilMs: 0 });
    this.#outcomes.set(instanceId, { failures: 0, succeeded: true });
  }

  /** Left alone at once, longer each time it fails again. */
  failed(instanceId: string, nowMs: number): void {
    const load = this.#of(instanceId);
    load.consecutiveFailures += 1;
    load.pausedUntilMs = nowMs + pauseMs(load.consecutiveFailures);
    const outcome = this.#outcomes.get(instanceId) ?? { failures: 0, succeeded: false };
    this.#outcomes.set(instanceId, { ...outcome, failures: outcome.failures + 1 });
  }

  /** What happened since the last call, for the rows; `giveBack` when storing it failed. */
  takeOutcomes(): { instanceId: string; failures: number; succeeded: boolean }[] {
    const taken = [...this.#outcomes].map(([instanceId, outcome]) => ({ instanceId, ...outcome }));
    this.#outcomes = new Map();
    return taken;
  }
  giveBack(outcomes: readonly { instanceId: string; failures: number; succeeded: boolean }[]): void {
    for (const { instanceId, failures, succeeded } of outcomes) {
      const since = this.#outcomes.get(instanceId);
      this.#outcomes.set(
        instanceId,
        since?.succeeded ? since : { failures: failures + (since?.failures ?? 0), succeeded },
      );
    }
  }

  /** Forgets instances that are gone and idle. */
  keepOnly(instanceIds: ReadonlySet<string>): void {
    for (const [instanceId, load] of this.#loads)
      if (!instanceIds.has(instanceId) && load.inFlight === 0) this.#loads.delete(instanceId);
  }

  #of(instanceId: string): Load {
    let load = this.#loads.get(instanceId);
    if (!load) this.#loads.set(instanceId, (load = { inFlight: 0, consecutiveFailures: 0, pausedUntilMs: 0 }));
    return load;
  }
}
