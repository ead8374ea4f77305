import { createHash, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import type { Knex } from 'knex';
import type { ChuteDefinition } from '../../../workflows/domain/chutes/chute-definition.ts';
import type { Launch } from '../../../workflows/domain/chutes/decide-launch.ts';
import type { RollingUpdate } from '../../../workflows/domain/chutes/plan-chute.ts';
import { slugWithSuffix } from '../../../workflows/domain/chutes/slug-of.ts';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { REMOVAL_REASONS, type RemovalCode } from '../../../workflows/domain/instances/removal.ts';
import { MINER_CHANNEL, PUBLIC_CHANNEL } from '../../../workflows/domain/protocol/events.ts';
import type { ChuteMemory, DeployChute, LaunchRequest } from '../../../workflows/validator/chutes/messages.ts';
import type { InstanceDeadlines } from '../../../workflows/validator/instances/messages.ts';
import { FOREIGN_KEY_VIOLATION, sqlState, UNIQUE_VIOLATION, violatedConstraint } from '../../clients/postgres.ts';
import type { BlobStore } from '../../clients/s3.ts';
import type { SecretBox } from '../../clients/secret-box.ts';
import { publishToMiners, publishToPublic } from '../events/event-outbox.ts';
import {
  endedLaunches,
  insertChute,
  lowerPermitted,
  readChute,
  readLiveLaunches,
  readRollingUpdate,
  updateChute,
  writeRollingUpdate,
} from './chute-store.ts';

export interface ChuteActivityDeps {
  db: Knex;
  blobs: Pick<BlobStore, 'get'>;
  box: SecretBox;
  /** given to every instance; a permission expires with `claimMs` */
  deadlines: InstanceDeadlines;
}

/** SecretBox context of a launch's X25519 private key (PKCS #8 DER, hex): `launch:<config_id>`. */
export const launchKeyContext = (configId: string): string => `launch:${configId}`;

/** The effects of `chute/<chute_id>`. Each may run twice: rows have natural keys, and an event goes with the change it tells. */
export function createChuteActivities({ db, blobs, box, deadlines }: ChuteActivityDeps) {
  return {
    /** What the rows say of a chute; `deployment` null when there is none. */
    async loadChute({
      chuteId,
    }: {
      chuteId: string;
    }): Promise<Pick<ChuteMemory, 'deployment' | 'launches' | 'rolling'>> {
      const chute = await readChute(db, chuteId);
      const launches = await readLiveLaunches(db, chuteId);
      if (!chute) return { deployment: null, launches, rolling: null };
      return {
        deployment: { chuteId, version: chute.version, public: chute.public, targetCount: chute.target_count },
        launches,
        rolling: await readRollingUpdate(db, chuteId, launches),
      };
    },

    /** Row, event, rolling update, fee and history in one transaction. A row that already is what is asked for is left alone. */
    async saveDeployment(deploy: DeployChute & { rolling: RollingUpdate | null }): Promise<{ targetCount: number }> {
      const definition = await readDefinition(blobs, deploy);
      try {
        return await db.transaction((tx) => saveDeployment(tx, definition, deploy));
      } catch (err) {
        if (sqlState(err) === FOREIGN_KEY_VIOLATION)
          throw new Refusal('request.invalid', 'the image or its owner no longer exists', { cause: err });
        if (sqlState(err) === UNIQUE_VIOLATION && violatedConstraint(err) === 'chutes_user_name') {
          throw new Refusal('resource.conflict', 'you already have a chute whose name differs only in case', {
            cause: err,
          });
        }
        throw err; // a slug collision is drawn again by the next attempt
      }
    },

    async saveTargetCount({ chuteId, targetCount }: { chuteId: string; targetCount: number }): Promise<void> {
      await db('chutes').where({ chute_id: chuteId }).update({ target_count: targetCount, updated_at: db.fn.now() });
    },

    /** Version 4 ids: nobody can tell them beforehand. */
    drawLaunchIds: (): Promise<{ configId: string; instanceId: string }> =>
      Promise.resolve({ configId: randomUUID(), instanceId: randomUUID() }),

    /** The permission's row with its secrets, which never leave this process unsealed. */
    async issueLaunch(
      input: LaunchRequest & {
        configId: string;
        instanceId: string;
        chuteId: string;
        version: string;
        permitted: Record<string, number> | null;
      },
    ): Promise<{ permittedAtMs: number; deadlines: InstanceDeadlines }> {
      const { privateKey, publicKey } = generateKeyPairSync('x25519');
      const sealed = box.seal(
        privateKey.export({ format: 'der', type: 'pkcs8' }).toString('hex'),
        launchKeyContext(input.configId),
      );
      const now = new Date();
      return db.transaction(async (tx) => {
        if (input.permitted) await lowerPermitted(tx, input.chuteId, input.permitted);
        await tx('launch_configs')
          .insert({
            config_id: input.configId,
            instance_id: input.instanceId,
            chute_id: input.chuteId,
            chute_version: input.version,
            miner_hotkey: input.minerHotkey,
            miner_coldkey: input.minerColdkey,
            miner_uid: input.minerUid,
            env_key: randomBytes(16).toString('hex'),
            ephemeral_key_sealed: sealed,
            ephemeral_public_key: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('hex'),
            created_at: now,
            expires_at: new Date(now.getTime() + deadlines.claimMs),
          })
          .onConflict('config_id')
          .ignore();
        const row: { created_at: Date } = await tx('launch_configs')
          .where({ config_id: input.configId })
          .first('created_at');
        return { permittedAtMs: row.created_at.getTime(), deadlines };
      });
    },

    /** Ends the record of a launch that has no workflow: a permission fails, an instance is removed and audited. */
    async forgetLaunch({
      instanceId,
      code,
    }: {
      instanceId: string;
      code: RemovalCode | 'launch_failed';
    }): Promise<void> {
      await db.transaction((tx) => forgetLaunch(tx, instanceId, code));
    },

    async inspectLaunches({
      chuteId,
      instanceIds,
    }: {
      chuteId: string;
      instanceIds: string[];
    }): Promise<{ gone: string[]; live: Record<string, Launch> }> {
      return { gone: await endedLaunches(db, instanceIds), live: await readLiveLaunches(db, chuteId) };
    },

    async announceBounty({ chuteId, bounty }: { chuteId: string; bounty: number }): Promise<void> {
      await db.transaction(async (tx) => {
        if (await wasPublished(tx, MINER_CHANNEL, 'bounty_change', { chute_id: chuteId, bounty }, 15)) return;
        await publishToMiners(tx, 'bounty_change', { chute_id: chuteId, bounty });
        await publishToPublic(
          tx,
          'bounty_change',
          { chute_id: chuteId, bounty },
          `chute ${chuteId} wants instances, bounty ${bounty}`,
        );
      });
    },

    async announceUpdate(update: {
      chuteId: string;
      instanceId: string;
      minerHotkey: string;
      oldVersion: string;
      newVersion: string;
    }): Promise<void> {
      const data = {
        chute_id: update.chuteId,
        instance_id: update.instanceId,
        miner_hotkey: update.minerHotkey,
        old_version: update.oldVersion,
        new_version: update.newVersion,
        reason: 'chute updated',
      };
      await db.transaction(async (tx) => {
        if (await wasPublished(tx, MINER_CHANNEL, 'rolling_update', data, 600)) return;
        await publishToMiners(tx, 'rolling_update', data, { to: [update.minerHotkey] });
      });
    },

    async endRollingUpdate({ chuteId, newVersion }: { chuteId: string; newVersion: string }): Promise<void> {
      await db('rolling_updates').where({ chute_id: chuteId, new_version: newVersion }).delete();
    },

    /** The row and its event go together; a chute that is not there any more was told already. */
    async forgetChute({ chuteId }: { chuteId: string }): Promise<void> {
      await db.transaction(async (tx) => {
        const chute = await readChute(tx, chuteId);
        const deleted = await tx('chutes').where({ chute_id: chuteId }).delete();
        if (!chute || deleted === 0) return;
        await tx('chute_operations').insert({ user_id: chute.user_id, chute_id: chuteId, operation: 'delete' });
        await publishToMiners(tx, 'chute_deleted', { chute_id: chuteId, version: chute.version });
      });
    },
  };
}
export type ChuteActivities = ReturnType<typeof createChuteActivities>;

/** The stored bytes are the ones the API accepted, or nothing is deployed. */
async function readDefinition(
  blobs: Pick<BlobStore, 'get'>,
  { definitionKey, definitionSha256, chuteId, version }: DeployChute,
): Promise<ChuteDefinition> {
  const bytes = await blobs.get(definitionKey);
  if (!bytes) throw new Error(`definition ${definitionKey} is not stored (yet)`);
  if (createHash('sha256').update(bytes).digest('hex') !== definitionSha256)
    throw new Refusal('request.invalid', 'stored definition is not the accepted one');
  const definition = JSON.parse(bytes.toString('utf8')) as ChuteDefinition;
  if (definition.chuteId !== chuteId || definition.version !== version)
    throw new Refusal('request.invalid', 'definition is of another chute or version');
  return definition;
}

async function saveDeployment(
  tx: Knex.Transaction,
  definition: ChuteDefinition,
  deploy: DeployChute & { rolling: RollingUpdate | null },
): Promise<{ targetCount: number }> {
  const { chuteId, version } = deploy;
  const row = await readChute(tx, chuteId);
  if (row?.version === version && row.public === deploy.public) {
    await writeRollingUpdate(tx, chuteId, deploy.rolling);
    return { targetCount: row.target_count };
  }
  const event = { chute_id: chuteId, version, job_only: false };
  if (row) {
    await updateChute(tx, definition);
    await publishToMiners(tx, 'chute_updated', event);
  } else {
    await insertChute(tx, definition, await freeSlug(tx, definition.slug));
    await publishToMiners(tx, 'chute_created', event);
    if (definition.feeMicroUsd > 0) {
      await tx('ledger')
        .insert({
          entry_id: randomUUID(),
          user_id: definition.userId,
          amount_micro_usd: -definition.feeMicroUsd,
          reason: 'deploy_fee',
          reference: `${chuteId}@${deploy.receivedAtMs}`,
        })
        .onConflict(['reason', 'reference'])
        .ignore();
    }
  }
  await writeRollingUpdate(tx, chuteId, deploy.rolling);
  await tx('chute_operations').insert({
    user_id: definition.userId,
    chute_id: chuteId,
    operation: row ? 'update' : 'create',
  });
  return { targetCount: row?.target_count ?? 1 };
}

const SUFFIX_ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';

async function freeSlug(tx: Knex, slug: string): Promise<string> {
  const taken: unknown = await tx('chutes').where({ slug }).first('chute_id');
  if (!taken && slug !== '') return slug;
  const suffix = Array.from(randomBytes(5), (byte) => SUFFIX_ALPHABET[byte % SUFFIX_ALPHABET.length]).join('');
  return slugWithSuffix(slug, suffix);
}

/** Was the same message put out in the last `withinS` seconds? Looks at the newest events only, whatever the table's size. */
async function wasPublished(
  tx: Knex,
  channel: typeof MINER_CHANNEL | typeof PUBLIC_CHANNEL,
  reason: string,
  data: object,
  withinS: number,
): Promise<boolean> {
  const { rows } = await tx.raw<{ rows: unknown[] }>(
    `select 1 from events where seq > (select coalesce(max(seq), 0) - 2000 from events) and channel = ? and payload->>'reason' = ?
       and payload->'data' = ?::jsonb and created_at > now() - make_interval(secs => ?) limit 1`,
    [channel, reason, JSON.stringify(data), withinS],
  );
  return rows.length > 0;
}

interface OwnerlessRow {
  config_id: string;
  instance_id: string;
  chute_id: string;
  chute_version: string;
  miner_hotkey: string;
  miner_coldkey: string;
  miner_uid: number;
  permitted_at: Date;
  claimed_at: Date | null;
  verified_at: Date | null;
  activated_at: Date | null;
  gpu_count: number | null;
  compute_multiplier: number | null;
  trust_level: string | null;
  gpu_uuids: string[];
}

async function forgetLaunch(
  tx: Knex.Transaction,
  instanceId: string,
  code: RemovalCode | 'launch_failed',
): Promise<void> {
  await tx('launch_configs')
    .where({ instance_id: instanceId })
    .whereNull('failed_at')
    .update({ failed_at: tx.fn.now(), failure_code: code });
  const row: OwnerlessRow | undefined = await tx('instances as i')
    .join('launch_configs as l', 'l.config_id', 'i.config_id')
    .where('i.instance_id', instanceId)
    .first(
      'l.config_id',
      'i.instance_id',
      'i.chute_id',
      'l.chute_version',
      'l.miner_hotkey',
      'l.miner_coldkey',
      'l.miner_uid',
      'i.gpu_count',
      'i.compute_multiplier',
      'i.trust_level',
      'i.activated_at',
      'l.verified_at',
      { permitted_at: 'l.created_at', claimed_at: 'i.created_at' },
      tx.raw(
        `coalesce((select jsonb_agg(n.node_uuid order by n.node_uuid) from instance_nodes n where n.instance_id = i.instance_id), '[]') as gpu_uuids`,
      ),
    );
  if (!row) return;
  const { chute_version: version, gpu_uuids: gpuUuids, ...rest } = row;
  const ended = {
    deleted_at: tx.fn.now(),
    removal_code: code,
    deletion_reason: code === 'launch_failed' ? 'launch failed' : REMOVAL_REASONS[code],
    evidence: JSON.stringify({ owner: 'missing' }),
  };
  await tx('instance_audit')
    .insert({ ...rest, version, gpu_uuids: JSON.stringify(gpuUuids), ...ended })
    .onConflict('instance_id')
    .merge(Object.keys(ended));
  await tx('instances').where({ instance_id: instanceId }).delete();
  const event = { chute_id: row.chute_id, miner_hotkey: row.miner_hotkey, instance_id: instanceId };
  await publishToMiners(tx, 'instance_deleted', { ...event, config_id: row.config_id }, { to: [row.miner_hotkey] });
  await publishToPublic(tx, 'instance_deleted', event, `instance ${instanceId} was removed: ${ended.deletion_reason}`);
}
