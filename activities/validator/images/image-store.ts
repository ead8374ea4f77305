import type { Knex } from 'knex';
import type { BuildResult } from '../../../workflows/domain/images/build-result.ts';
import { escapeLike, type ImageReference } from '../../../workflows/domain/images/image-reference.ts';
import { BUILDING, BUILT, errorStatus, isFinished, PENDING } from '../../../workflows/domain/images/image-status.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { uuid5 } from '../../../workflows/domain/ids.ts';
import type { ImageArtifact } from '../../../workflows/domain/protocol/image-artifact.ts';
import type { DeleteImage, SubmitImage } from '../../../workflows/validator/images/messages.ts';
import { FOREIGN_KEY_VIOLATION, sqlState, UNIQUE_VIOLATION } from '../../clients/postgres.ts';
import { publishToMiners } from '../events/event-outbox.ts';

/** Creates and deletes a user may do in 24 hours (spec/validator-api.md §1.7). */
export const IMAGE_OPERATIONS_PER_DAY = 24;
/** What a developer's balance must hold for a build, in production (§2.3). */
export const MINIMUM_BALANCE_MICRO_USD = 50_000_000;

export interface ImageRow {
  image_id: string;
  user_id: string;
  name: string;
  tag: string;
  readme: string;
  logo_id: string | null;
  public: boolean;
  status: string;
  patch_version: string;
  chutes_version: string;
  context_key: string;
  context_sha256: string;
  dockerfile_key: string;
  dockerfile_sha256: string;
  log_key: string | null;
  artifact: ImageArtifact | null;
  created_at: Date;
  build_started_at: Date | null;
  build_completed_at: Date | null;
}
/** A row with what its owner's `UserResponse` needs. */
export interface OwnedImageRow extends ImageRow {
  username: string;
  user_logo_id: string | null;
  user_created_at: Date;
}

export type ImageStore = ReturnType<typeof createImageStore>;

/** The images table and what changes with it in one transaction. */
export function createImageStore(db: Knex) {
  const owned = () =>
    db('images')
      .join('users', 'users.user_id', 'images.user_id')
      .select<OwnedImageRow[]>(
        'images.*',
        'users.username',
        'users.logo_id as user_logo_id',
        'users.created_at as user_created_at',
      );
  const mayUse = (userId: string | null) => (query: Knex.QueryBuilder) => {
    void query.where('images.public', true);
    if (userId) void query.orWhere('images.user_id', userId);
  };

  return {
    byId: async (imageId: string): Promise<OwnedImageRow | null> =>
      (await owned().where('images.image_id', imageId).first()) ?? null,

    /** An image the caller owns or that is public; the caller's own first. Without `user/` the caller's own are meant. */
    async find(
      reference: ImageReference,
      caller: { userId: string; username: string } | null,
    ): Promise<OwnedImageRow | null> {
      if (reference.kind === 'id') {
        const row = await owned()
          .where('images.image_id', reference.imageId)
          .where(mayUse(caller?.userId ?? null))
          .first();
        return row ?? (caller ? this.bySpelling(reference.imageId, caller) : null);
      }
      // The part before the first slash may be a user, or the beginning of a name with slashes.
      const slash = reference.path.indexOf('/');
      const rows = await owned()
        .where(mayUse(caller?.userId ?? null))
        .whereRaw('lower(images.tag) = lower(?)', [reference.tag])
        .where((query) => {
          if (caller)
            void query.where(
              (own) =>
                void own
                  .where('images.user_id', caller.userId)
                  .whereRaw('lower(images.name) = lower(?)', [reference.path]),
            );
          if (slash > 0) {
            void query.orWhere(
              (other) =>
                void other
                  .whereRaw('lower(users.username) = lower(?)', [reference.path.slice(0, slash)])
                  .whereRaw('lower(images.name) = lower(?)', [reference.path.slice(slash + 1)]),
            );
          }
          if (!caller && slash <= 0) void query.whereRaw('false');
        })
        .orderBy('images.created_at', 'desc');
      return rows.find((row) => row.user_id === caller?.userId) ?? rows[0] ?? null;
    },

    /** Older SDKs hash the user name in its own case (§6.1): their id of one of the caller's images. */
    async bySpelling(imageId: string, caller: { userId: string; username: string }): Promise<OwnedImageRow | null> {
      if (caller.username === caller.username.toLowerCase()) return null;
      const rows = await owned().where('images.user_id', caller.userId);
      return rows.find((row) => uuid5(`${caller.username}/${row.name}:${row.tag}`) === imageId) ?? null;
    },

    async list(filter: {
      userId: string;
      includePublic: boolean;
      name?: string | undefined;
      tag?: string | undefined;
      offset: number;
      limit: number;
    }): Promise<{ total: number; rows: OwnedImageRow[] }> {
      const matching = (query: Knex.QueryBuilder): void => {
        if (filter.includePublic) void query.where(mayUse(filter.userId));
        else void query.where('images.user_id', filter.userId);
        if (filter.name)
          void query.whereRaw(String.raw`images.name ilike ? escape '\'`, [`%${escapeLike(filter.name)}%`]);
        if (filter.tag) void query.whereRaw(String.raw`images.tag ilike ? escape '\'`, [`%${escapeLike(filter.tag)}%`]);
      };
      const [counted] = await db('images').modify(matching).count<{ count: number }[]>('* as count');
      const rows = await owned()
        .modify(matching)
        .orderBy([{ column: 'images.created_at', order: 'desc' }, { column: 'images.image_id' }])
        .offset(filter.offset)
        .limit(filter.limit);
      return { total: counted?.count ?? 0, rows };
    },

    async balanceMicroUsd(userId: string): Promise<number> {
      const [row] = await db('ledger')
        .where({ user_id: userId })
        .sum<{ sum: string | null }[]>('amount_micro_usd as sum');
      return Number(row?.sum ?? 0);
    },

    /** Throws what `insert` would, before any byte is stored. */
    async checkCreatable(image: {
      imageId: string;
      userId: string;
      name: string;
      tag: string;
      unlimited: boolean;
    }): Promise<void> {
      const existing: unknown = await db('images')
        .where({ image_id: image.imageId })
        .orWhere({ user_id: image.userId, name: image.name, tag: image.tag })
        .first('image_id');
      if (existing) throw taken(image);
      if (!image.unlimited) await checkDailyLimit(db, image.userId);
    },

    /** The row, counted against the daily limit. Repeating the same submission changes nothing. */
    async insert(image: SubmitImage): Promise<void> {
      const createdAt = new Date(image.submittedAtMs);
      await db
        .transaction(async (trx) => {
          await lockUser(trx, image.userId);
          const existing = await trx<ImageRow>('images').where({ image_id: image.imageId }).first();
          if (existing) {
            const same =
              existing.created_at.getTime() === image.submittedAtMs &&
              existing.context_sha256 === image.contextSha256 &&
              existing.dockerfile_sha256 === image.dockerfileSha256;
            if (same) return;
            throw taken(image);
          }
          if (!image.unlimited) await checkDailyLimit(trx, image.userId);
          await trx('images').insert({
            image_id: image.imageId,
            user_id: image.userId,
            name: image.name,
            tag: image.tag,
            readme: image.readme,
            logo_id: image.logoId,
            public: image.public,
            status: PENDING,
            chutes_version: image.chutesVersion,
            context_key: image.contextKey,
            context_sha256: image.contextSha256,
            dockerfile_key: image.dockerfileKey,
            dockerfile_sha256: image.dockerfileSha256,
            created_at: createdAt,
          });
          await trx('image_operations').insert({
            user_id: image.userId,
            image_id: image.imageId,
            operation: 'create',
            created_at: createdAt,
          });
        })
        .catch((err: unknown) => {
          if (sqlState(err) === UNIQUE_VIOLATION) throw taken(image);
          throw err;
        });
    },

    /** False when the image is gone or finished: there is nothing to build. */
    async markBuilding(imageId: string): Promise<boolean> {
      const changed = await db('images')
        .where({ image_id: imageId })
        .whereIn('status', [PENDING, BUILDING])
        .update({ status: BUILDING, build_started_at: db.raw('coalesce(build_started_at, now())') });
      return changed > 0;
    },

    /** The end of a build; `image_created` goes out once, and only for a success. */
    async finish(imageId: string, result: BuildResult, logKey: string): Promise<void> {
      await db.transaction(async (trx) => {
        const row = await trx<ImageRow>('images').where({ image_id: imageId }).forUpdate().first();
        if (!row || isFinished(row.status)) return;
        await trx('images')
          .where({ image_id: imageId })
          .update({
            status: result.kind === 'built' ? BUILT : errorStatus(result.reason),
            log_key: logKey,
            build_completed_at: trx.fn.now(),
            artifact: result.kind === 'built' ? JSON.stringify(result.artifact) : null,
          });
        if (result.kind === 'built') await publishToMiners(trx, 'image_created', { image_id: imageId });
      });
    },

    async checkDeletable({
      imageId,
      userId,
      unlimited,
      requestedAtMs,
    }: DeleteImage & { imageId: string }): Promise<void> {
      const row = await db<ImageRow>('images').where({ image_id: imageId, user_id: userId }).first('image_id');
      if (!row) throw new Refusal('resource.not_found', 'image not found, or it is not yours');
      if (await db('chutes').where({ image_id: imageId }).first('chute_id')) throw inUse();
      if (!unlimited) await checkDailyLimit(db, userId, new Date(requestedAtMs));
    },

    /** The deleted row, or null when it was gone already. */
    async delete({ imageId, userId, requestedAtMs }: DeleteImage & { imageId: string }): Promise<ImageRow | null> {
      return db
        .transaction(async (trx) => {
          await lockUser(trx, userId);
          const [row] = await trx<ImageRow>('images')
            .where({ image_id: imageId, user_id: userId })
            .delete()
            .returning('*');
          if (!row) return null;
          await trx('image_operations').insert({
            user_id: userId,
            image_id: imageId,
            operation: 'delete',
            created_at: new Date(requestedAtMs),
          });
          await publishToMiners(trx, 'image_deleted', { image_id: imageId });
          return row;
        })
        .catch((err: unknown) => {
          if (sqlState(err) === FOREIGN_KEY_VIOLATION) throw inUse();
          throw err;
        });
    },
  };
}

const taken = ({ name, tag }: { name: string; tag: string }): Refusal =>
  new Refusal('resource.conflict', `image ${name}:${tag} exists already`);
const inUse = (): Refusal => new Refusal('resource.conflict', 'image is in use by a chute');

const lockUser = (trx: Knex, userId: string): Promise<unknown> =>
  trx('users').where({ user_id: userId }).forUpdate().first('user_id');

/** `until` leaves out what the same request already recorded. */
async function checkDailyLimit(db: Knex, userId: string, until?: Date): Promise<void> {
  const [row] = await db('image_operations')
    .where({ user_id: userId })
    .whereRaw(`created_at > now() - interval '24 hours'`)
    .modify((query) => {
      if (until) void query.where('created_at', '<', until);
    })
    .count<{ count: number }[]>('* as count');
  if ((row?.count ?? 0) >= IMAGE_OPERATIONS_PER_DAY) {
    throw new Refusal('rate.limited', `only ${IMAGE_OPERATIONS_PER_DAY} images may be created or deleted in 24 hours`);
  }
}
