import { createHash, randomInt, X509Certificate } from 'node:crypto';
import type { Knex } from 'knex';
import type { RefusalCode } from '../../../workflows/domain/errors.ts';
import { nodeSelectorOf, type NodeSelectorDocument } from '../../../workflows/domain/chutes/chute-definition.ts';
import { soldVramBytes } from '../../../workflows/domain/gpus/gpu-table.ts';
import { computeMultiplier, hourlyPriceMicroUsd } from '../../../workflows/domain/gpus/node-selector.ts';
import {
  nodeTaken,
  whyNodesRefused,
  type ClaimableNode,
  type ClaimProblem,
} from '../../../workflows/domain/instances/check-claim-nodes.ts';
import type { RemovalCode } from '../../../workflows/domain/instances/removal.ts';
import { TRUST_LEVELS, type TrustLevel } from '../../../workflows/domain/proof/messages.ts';
import type { ProofPluginName, ProvenGpu } from '../../../workflows/domain/proof/plugin.ts';
import type { ClaimInput } from '../../../workflows/validator/instances/messages.ts';
import { sqlState, UNIQUE_VIOLATION, FOREIGN_KEY_VIOLATION, violatedConstraint } from '../../clients/postgres.ts';
import { publishToMiners, publishToPublic } from '../events/event-outbox.ts';

export interface ClaimLaunch {
  instanceId: string;
  configId: string;
  claim: ClaimInput;
}

/** A refusal with a `removal` has burned the config; without one the launch token stays usable (internals §3.2). `awaiting`: a
 * GPU is in a sweep, which ends soon; nothing was written. */
export type ClaimOutcome =
  | { kind: 'claimed'; plugin: ProofPluginName; gpus: ProvenGpu[] }
  | { kind: 'awaiting'; gpuUuids: string[] }
  | { kind: 'refused'; code: RefusalCode; detail: string; removal: RemovalCode | null };

/** What private instances are paid more than public ones (spec/validator-api.md §5.3). */
const PRIVATE_MULTIPLIER = 16;

interface Config {
  config_id: string;
  chute_id: string;
  chute_version: string;
  miner_hotkey: string;
  miner_coldkey: string;
  miner_uid: number;
  created_at: Date;
  expires_at: Date;
  failed_at: Date | null;
}
interface Chute {
  version: string;
  public: boolean;
  disabled: boolean;
  node_selector: NodeSelectorDocument;
  minimum_trust_level: string;
  chutes_version: string;
  target_count: number;
}
interface Node {
  uuid: string;
  miner_hotkey: string;
  name: string;
  gpu_identifier: string;
  memory: number;
  status: string;
  verified_at: Date | null;
  trust_level: string;
  verification_host: string;
  instance_id: string | null;
  is_swept: boolean;
}

const refused = (code: RefusalCode, detail: string, removal: RemovalCode | null = null): ClaimOutcome => ({
  kind: 'refused',
  code,
  detail,
  removal,
});

/**
 * The claim of spec/validator-api.md §2.6.2 in one short transaction: config, chute, miner, GPUs, then instance, its GPUs,
 * its audit row, and the events. Natural key: the instance id; run again it gives what it gave. Two claims for one GPU
 * meet in the primary key of `instance_nodes`: one wins, the other is a conflict and burns its config.
 */
export async function claimInstanceRow(
  db: Knex,
  netuid: number,
  plugin: ProofPluginName,
  input: ClaimLaunch,
): Promise<ClaimOutcome> {
  let outcome: ClaimOutcome;
  try {
    outcome = await db.transaction((trx) => claimIn(trx, netuid, plugin, input));
  } catch (err) {
    outcome = conflictOf(err, input.claim);
  }
  if (outcome.kind === 'refused' && outcome.removal) await burn(db, input.configId, outcome.removal);
  return outcome;
}

async function claimIn(
  trx: Knex.Transaction,
  netuid: number,
  plugin: ProofPluginName,
  { instanceId, configId, claim }: ClaimLaunch,
): Promise<ClaimOutcome> {
  const config = await trx<Config>('launch_configs').where({ config_id: configId }).forUpdate().first();
  if (!config) return refused('auth.unauthorized', 'launch token is not known');
  if (await trx('instances').where({ instance_id: instanceId }).first('instance_id')) {
    return { kind: 'claimed', plugin, gpus: await gpusOf(trx, instanceId) };
  }
  if (config.failed_at || config.expires_at.getTime() <= claim.receivedAtMs)
    return refused('auth.unauthorized', 'launch token is no longer valid');

  const chute: Chute | undefined = await trx('chutes')
    .where({ chute_id: config.chute_id })
    .forNoKeyUpdate()
    .first('version', 'public', 'disabled', 'node_selector', 'minimum_trust_level', 'chutes_version', 'target_count');
  if (!chute) return refused('resource.not_found', 'chute no longer exists');
  const problem =
    (await whyMinerRefused(trx, netuid, config.miner_hotkey)) ?? (await whyNotScalable(trx, config, chute));
  if (problem) return problem;

  const claimed = claim.gpus.map((gpu) => gpu.uuid);
  // A sweep takes these rows' locks in the same order: it sees this claim, or this sees it.
  await trx('nodes').whereIn('uuid', claimed).orderBy('uuid').forUpdate().select('uuid');
  const nodes: Node[] = await trx('nodes')
    .leftJoin('instance_nodes', 'node_uuid', 'uuid')
    .whereIn('uuid', claimed)
    .select('nodes.*', 'instance_nodes.instance_id', trx.raw('coalesce(sweep_until > now(), false) as is_swept'))
    .orderBy('uuid');
  const selector = nodeSelectorOf(chute.node_selector);
  const minimumTrustLevel = trustLevelOf(chute.minimum_trust_level);
  const wrong =
    whyNodesRefused(
      {
        gpuUuids: claim.gpus.map((gpu) => gpu.uuid),
        host: claim.host,
        minerHotkey: config.miner_hotkey,
        selector,
        minimumTrustLevel,
      },
      nodes.map(claimable),
    ) ?? whyTrustRefused(plugin, minimumTrustLevel);
  if (wrong) return refused(wrong.code, wrong.detail, 'claim_refused');

  const swept = nodes.filter(({ is_swept: isSwept }) => isSwept);
  if (swept.length > 0) return { kind: 'awaiting', gpuUuids: swept.map(({ uuid }) => uuid) };

  await insertInstance(trx, { instanceId, config, chute, nodes, claim });
  return { kind: 'claimed', plugin, gpus: nodes.map(provenGpu) };
}

/** The claim's own proof reaches no further than the plug-in in force. */
const whyTrustRefused = (plugin: ProofPluginName, minimum: TrustLevel): ClaimProblem | null =>
  TRUST_LEVELS.indexOf(plugin) >= TRUST_LEVELS.indexOf(minimum)
    ? null
    : { code: 'request.invalid', detail: `the chute asks for trust level ${minimum}, this network proves ${plugin}` };

async function whyMinerRefused(trx: Knex, netuid: number, hotkey: string): Promise<ClaimOutcome | null> {
  const member: { blacklist_reason: string | null } | undefined = await trx('metagraph_nodes')
    .where({ netuid, hotkey })
    .first('blacklist_reason');
  if (!member) return refused('resource.not_found', `hotkey ${hotkey} is not in the metagraph`);
  return member.blacklist_reason === null
    ? null
    : refused('auth.forbidden', `hotkey is blacklisted: ${member.blacklist_reason}`);
}

/** The gate once more: permissions that stalled no longer counted when others were given (§2.6.2 "scalability re-check"). */
async function whyNotScalable(trx: Knex, config: Config, chute: Chute): Promise<ClaimOutcome | null> {
  if (chute.disabled) return refused('launch.not_scalable', 'chute is disabled');
  if (chute.version !== config.chute_version)
    return refused('launch.not_scalable', 'chute has a newer version', 'old_version');
  const { count } = (await trx('instances')
    .where({ chute_id: config.chute_id, version: config.chute_version })
    .count<{ count: number }>({ count: '*' })
    .first()) ?? { count: 0 };
  return count >= chute.target_count ? refused('launch.not_scalable', 'every instance the chute wants is there') : null;
}

interface NewInstance {
  instanceId: string;
  config: Config;
  chute: Chute;
  nodes: Node[];
  claim: ClaimInput;
}

async function insertInstance(
  trx: Knex.Transaction,
  { instanceId, config, chute, nodes, claim }: NewInstance,
): Promise<void> {
  const selector = nodeSelectorOf(chute.node_selector);
  const multiplier = (computeMultiplier(selector) ?? 0) * (chute.public ? 1 : PRIVATE_MULTIPLIER);
  const model = nodes[0]?.name ?? '';
  const ids = { instance_id: instanceId, config_id: config.config_id, chute_id: config.chute_id };
  const miner = { miner_hotkey: config.miner_hotkey, miner_coldkey: config.miner_coldkey, miner_uid: config.miner_uid };
  await trx('instances').insert({
    ...ids,
    ...miner,
    version: config.chute_version,
    host: claim.host,
    port: claim.portMappings[0]?.external_port,
    port_mappings: JSON.stringify(claim.portMappings),
    transport: claim.transport,
    tls_cert_pem: claim.tlsCertPem,
    tls_cert_sha256: claim.tlsCertPem === null ? null : certificateFingerprint(claim.tlsCertPem),
    transport_public_key: claim.transportPublicKey,
    gpu_count: nodes.length,
    gpu_model_name: model,
    hourly_rate_micro_usd: hourlyPriceMicroUsd(selector) ?? 0,
    compute_multiplier: multiplier,
    chutes_version: chute.chutes_version,
  });
  await trx('instance_nodes').insert(nodes.map(({ uuid }) => ({ node_uuid: uuid, instance_id: instanceId })));
  await trx('instance_audit').insert({
    ...ids,
    ...miner,
    version: config.chute_version,
    gpu_count: nodes.length,
    gpu_uuids: JSON.stringify(nodes.map(({ uuid }) => uuid)),
    compute_multiplier: multiplier,
    trust_level: 'none',
    permitted_at: config.created_at,
    claimed_at: trx.fn.now(),
  });
  await trx('launch_configs')
    .where({ config_id: config.config_id })
    .update({ retrieved_at: trx.fn.now(), seed: randomInt(1, 2 ** 48 - 1) });
  const told = {
    chute_id: config.chute_id,
    gpu_count: nodes.length,
    gpu_model_name: model,
    miner_hotkey: config.miner_hotkey,
    instance_id: instanceId,
  };
  await publishToMiners(
    trx,
    'instance_created',
    { ...told, config_id: config.config_id },
    { to: [config.miner_hotkey] },
  );
  await publishToPublic(
    trx,
    'instance_created',
    told,
    `Miner ${config.miner_hotkey} claimed ${nodes.length}x ${model} for chute ${config.chute_id}`,
  );
}

function conflictOf(err: unknown, claim: ClaimInput): ClaimOutcome {
  const constraint = violatedConstraint(err);
  if (sqlState(err) === UNIQUE_VIOLATION && constraint === 'instance_nodes_pkey') {
    const { code, detail } = nodeTaken(claim.gpus.map((gpu) => gpu.uuid).join(', '));
    return refused(code, detail, 'claim_refused');
  }
  if (sqlState(err) === UNIQUE_VIOLATION && constraint === 'instances_host_port_key') {
    return refused('resource.conflict', 'another instance answers on this host and port', 'claim_refused');
  }
  if (sqlState(err) === FOREIGN_KEY_VIOLATION && constraint === 'instance_nodes_node_uuid_fkey') {
    return refused('resource.not_found', 'a GPU has left your inventory', 'claim_refused');
  }
  throw err;
}

const burn = (db: Knex, configId: string, code: RemovalCode): Promise<number> =>
  db('launch_configs')
    .where({ config_id: configId })
    .whereNull('failed_at')
    .update({ failed_at: db.fn.now(), failure_code: code });

async function gpusOf(trx: Knex, instanceId: string): Promise<ProvenGpu[]> {
  const nodes: Node[] = await trx('nodes')
    .join('instance_nodes', 'node_uuid', 'uuid')
    .where({ instance_id: instanceId })
    .select('nodes.*')
    .orderBy('uuid');
  return nodes.map(provenGpu);
}

const provenGpu = (node: Node): ProvenGpu => ({
  uuid: node.uuid,
  gpuType: node.gpu_identifier,
  vramBytes: soldVramBytes(node.gpu_identifier),
});

const claimable = (node: Node): ClaimableNode => ({
  uuid: node.uuid,
  minerHotkey: node.miner_hotkey,
  gpu: node.gpu_identifier,
  verificationHost: node.verification_host,
  isVerified: node.status === 'verified' && node.verified_at !== null,
  trustLevel: trustLevelOf(node.trust_level),
  instanceId: node.instance_id,
});

const trustLevelOf = (text: string): TrustLevel => TRUST_LEVELS.find((level) => level === text) ?? 'none';

/** SHA-256 of the certificate's DER, hex: what transport `canopy/1` pins. Throws on anything that is no certificate. */
export const certificateFingerprint = (pem: string): string =>
  createHash('sha256').update(new X509Certificate(pem).raw).digest('hex');
