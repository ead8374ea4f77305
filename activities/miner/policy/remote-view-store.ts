import type { Knex } from 'knex';
import type { ChuteNeeds } from '../../../workflows/domain/miner/choose-server.ts';
import type { RemoteInstance } from '../../../workflows/domain/miner/plan-reconcile.ts';
import type { ImageArtifact } from '../../../workflows/domain/protocol/image-artifact.ts';

export interface LocalChute {
  chuteId: string;
  version: string;
  name: string;
  imageId: string | null;
  needs: Omit<ChuteNeeds, 'onlyServerId'>;
  computeMultiplier: number;
  hasCords: boolean;
  /** what its image was built into, when the validator says so with the chute */
  artifact: ImageArtifact | null;
}

type Item = Record<string, unknown>;

/** The validator's lists as this miner last saw them. Each replaces the one before as a whole, or not at all. */
export class RemoteViewStore {
  readonly #db: Knex;
  readonly #validator: string;
  constructor(db: Knex, validator: string) {
    this.#db = db;
    this.#validator = validator;
  }

  /** Items of `/miner/chutes/`. Chutes that are not in the list any more are forgotten, bans of the operator kept. */
  async replaceChutes(items: readonly Item[]): Promise<void> {
    const chutes = items.filter(isChute);
    await this.#db.transaction(async (tx) => {
      for (const item of chutes) await this.#putChute(tx, item, { keepsBan: true });
      await tx('chutes')
        .where({ validator: this.#validator })
        .whereNotIn(
          'chute_id',
          chutes.map((item) => item.chute_id),
        )
        .delete();
    });
  }

  /** One definition; an update by the developer lifts the operator's ban (spec/miner.md §5.2 chute_updated). */
  async putChute(item: Item, { keepsBan = false } = {}): Promise<boolean> {
    if (!isChute(item)) return false;
    await this.#putChute(this.#db, item, { keepsBan });
    return true;
  }

  async #putChute(db: Knex, item: Chute, { keepsBan }: { keepsBan: boolean }): Promise<void> {
    const row = {
      chute_id: item.chute_id,
      validator: this.#validator,
      version: item.version,
      name: item.name,
      definition: JSON.stringify(item),
      updated_at: db.fn.now(),
    };
    const changed = { version: row.version, name: row.name, definition: row.definition, updated_at: row.updated_at };
    await db('chutes')
      .insert(row)
      .onConflict(['validator', 'chute_id'])
      .merge(keepsBan ? changed : { ...changed, ban_reason: null });
  }

  async forgetChute(chuteId: string, version: string): Promise<void> {
    await this.#db('chutes').where({ validator: this.#validator, chute_id: chuteId, version }).delete();
  }

  async chute(chuteId: string, db: Knex = this.#db): Promise<LocalChute | null> {
    const row = await db('chutes').where({ validator: this.#validator, chute_id: chuteId }).first();
    return row ? localChute(row) : null;
  }

  async chutes(): Promise<LocalChute[]> {
    const rows = await this.#db('chutes').where({ validator: this.#validator }).orderBy('chute_id');
    return rows.map(localChute);
  }

  /** Items of `/miner/images/`. */
  async putImages(items: readonly Item[]): Promise<void> {
    const rows = items.flatMap((item) =>
      typeof item.image_id !== 'string'
        ? []
        : [
            {
              validator: this.#validator,
              image_id: item.image_id,
              artifact: item.artifact ? JSON.stringify(item.artifact) : null,
              reference: `${text(item.username)}/${text(item.name)}:${text(item.tag)}`,
              updated_at: this.#db.fn.now(),
            },
          ],
    );
    if (rows.length > 0) await this.#db('images').insert(rows).onConflict(['validator', 'image_id']).merge();
  }

  async artifact(imageId: string): Promise<ImageArtifact | null> {
    const row = await this.#db('images').where({ validator: this.#validator, image_id: imageId }).first('artifact');
    return row?.artifact ?? null;
  }

  /** Items of `/miner/instances/?explicit_null=True`; when each was seen first is kept. */
  async replaceInstances(items: readonly Item[]): Promise<void> {
    const rows = items.flatMap((item) =>
      typeof item.instance_id !== 'string' || typeof item.chute_id !== 'string'
        ? []
        : [
            {
              instance_id: item.instance_id,
              validator: this.#validator,
              chute_id: item.chute_id,
              config_id: typeof item.config_id === 'string' ? item.config_id : null,
              // A list without the field speaks of active ones only (spec/miner.md §5.4 R6b).
              active: item.active !== false,
              verified: typeof item.last_verified_at === 'string',
            },
          ],
    );
    await this.#db.transaction(async (tx) => {
      if (rows.length > 0)
        await tx('remote_instances').insert(rows).onConflict('instance_id').merge(['config_id', 'active', 'verified']);
      await tx('remote_instances')
        .where({ validator: this.#validator })
        .whereNotIn(
          'instance_id',
          rows.map((row) => row.instance_id),
        )
        .delete();
    });
  }

  async instances(): Promise<RemoteInstance[]> {
    const rows = await this.#db('remote_instances').where({ validator: this.#validator }).orderBy('instance_id');
    return rows.map((row) => ({
      instanceId: row.instance_id,
      configId: row.config_id,
      chuteId: row.chute_id,
      isActive: row.active,
      isVerified: row.verified,
      firstSeenAtMs: (row.first_seen_at as Date).getTime(),
    }));
  }
}

interface Chute extends Item {
  chute_id: string;
  version: string;
  name: string;
}
const isChute = (item: Item): item is Chute =>
  typeof item.chute_id === 'string' && typeof item.version === 'string' && typeof item.name === 'string';
const text = (value: unknown): string => (typeof value === 'string' ? value : '');

/** Older validators leave `preemptible`, `tee` and the multiplier out (spec/miner.md §3.2). */
function localChute(row: {
  chute_id: string;
  version: string;
  name: string;
  ban_reason: string | null;
  definition: Item;
}): LocalChute {
  const { definition } = row;
  const selector = (definition.node_selector ?? {}) as Item;
  const supported = definition.supported_gpus ?? selector.supported_gpus;
  const multiplier = definition.effective_compute_multiplier ?? selector.compute_multiplier ?? 1;
  return {
    chuteId: row.chute_id,
    version: row.version,
    name: row.name,
    imageId: typeof definition.image_id === 'string' ? definition.image_id : null,
    needs: {
      gpuCount: Number(selector.gpu_count ?? 1),
      isTee: definition.tee === true,
      isBanned: row.ban_reason !== null,
      supportedGpus: Array.isArray(supported) ? supported.filter((ref) => typeof ref === 'string') : [],
    },
    artifact: (definition.canopy as { artifact?: ImageArtifact } | undefined)?.artifact ?? null,
    computeMultiplier: Number(multiplier),
    hasCords: Array.isArray(definition.cords) ? definition.cords.length > 0 : Boolean(definition.cords),
  };
}
