import type { RemoteViewStore } from '../policy/remote-view-store.ts';
import { detailOf, expectStatus, ValidatorError, type ValidatorClient } from './validator-client.ts';

export interface Utilization {
  chuteId: string;
  scalable: boolean;
  updateInProgress: boolean;
}

/** Brings the validator's lists into this miner's tables. `false` = it said nothing usable: the last view stays. */
export class RemoteLists {
  readonly #validator: ValidatorClient;
  readonly #store: RemoteViewStore;
  readonly #freshMs: number;
  #instances: { atMs: number; done: Promise<boolean> } | null = null;
  constructor({
    validator,
    store,
    freshMs = 2000,
  }: {
    validator: ValidatorClient;
    store: RemoteViewStore;
    freshMs?: number;
  }) {
    this.#validator = validator;
    this.#store = store;
    this.#freshMs = freshMs;
  }

  async refreshChutes(): Promise<boolean> {
    const items = await this.#validator.list('/miner/chutes/');
    if (items !== null) await this.#store.replaceChutes(items);
    return items !== null;
  }

  async refreshImages(): Promise<boolean> {
    const items = await this.#validator.list('/miner/images/');
    if (items !== null) await this.#store.putImages(items);
    return items !== null;
  }

  /** Many deployments ask at once: one answer of the last moments serves them all. */
  refreshInstances(): Promise<boolean> {
    if (this.#instances && performance.now() - this.#instances.atMs < this.#freshMs) return this.#instances.done;
    const done = this.#fetchInstances();
    const entry = { atMs: performance.now(), done };
    this.#instances = entry;
    done.catch(() => {
      if (this.#instances === entry) this.#instances = null;
    });
    return done;
  }

  async #fetchInstances(): Promise<boolean> {
    const items = await this.#validator.list('/miner/instances/', { explicit_null: 'True' });
    if (items !== null) await this.#store.replaceInstances(items);
    return items !== null;
  }

  /** The definition of exactly that version; false when it is not current any more. */
  async importChute(chuteId: string, version: string, options: { keepsBan?: boolean } = {}): Promise<boolean> {
    const answer = await this.#validator.ask('GET', `/miner/chutes/${chuteId}/${version}`, { purpose: 'miner' });
    if (answer.status === 404) return false;
    if (answer.status !== 200)
      throw new ValidatorError(answer.status, 'GET /miner/chutes/{id}/{version}', detailOf(answer));
    return this.#store.putChute(answer.body as Record<string, unknown>, options);
  }

  async utilization(): Promise<Utilization[]> {
    const answer = await this.#validator.ask('GET', '/chutes/utilization');
    if (answer.status === 404) return []; // an older validator: its permissions alone decide
    return rowsOf(expectStatus(answer, 'GET /chutes/utilization', [200])).map((row) => ({
      chuteId: row.chute_id,
      scalable: row.scalable !== false,
      updateInProgress: row.update_in_progress === true,
    }));
  }

  /** Chutes in the middle of a rolling update; null when the validator does not say. */
  async rollingChuteIds(): Promise<string[] | null> {
    const answer = await this.#validator.ask('GET', '/chutes/rolling_updates');
    return answer.status === 200 ? rowsOf(answer.body).map((row) => row.chute_id) : null;
  }
}

type Row = Record<string, unknown> & { chute_id: string };
const rowsOf = (body: unknown): Row[] =>
  Array.isArray(body)
    ? body.filter((row): row is Row => typeof row === 'object' && row !== null && typeof row.chute_id === 'string')
    : [];
