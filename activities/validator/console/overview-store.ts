import type { Knex } from 'knex';

export interface TrustCount {
  trustLevel: string;
  count: number;
}
export interface RecentInstance {
  instanceId: string;
  chuteName: string;
  minerHotkey: string;
  gpuCount: number;
  gpuModelName: string;
  trustLevel: string;
  active: boolean;
  verified: boolean;
  createdAt: Date;
}
export interface RecentRemoval {
  instanceId: string;
  minerHotkey: string;
  code: string | null;
  reason: string | null;
  trustLevel: string;
  deletedAt: Date;
}
/** What one GPU's last proof showed; times of the window it was part of. */
export interface RecentProof {
  gpuUuid: string;
  gpuType: string;
  minerHotkey: string;
  status: string;
  trustLevel: string;
  reason: string | null;
  bytesFilled: number;
  samplesChecked: number;
  fillMs: number | null;
  walkMs: number | null;
  /** its file can be fetched */
  isRecorded: boolean;
  verifiedAt: Date | null;
}
export interface Overview {
  users: number;
  imagesBuilt: number;
  images: number;
  publicChutes: number;
  chutes: number;
  instancesActive: number;
  instances: TrustCount[];
  nodesVerified: number;
  nodes: TrustCount[];
  recent: RecentInstance[];
  removals: RecentRemoval[];
  proofs: RecentProof[];
}

const RECENT = 10;

/** What the landing page shows. Public chutes are named; of private ones it only counts. */
export async function readOverview(db: Knex): Promise<Overview> {
  const byTrust = async (table: 'instances' | 'nodes'): Promise<TrustCount[]> => {
    const { rows } = await db.raw<{ rows: TrustCount[] }>(
      'select trust_level as "trustLevel", count(*) as count from ?? group by 1 order by 1',
      [table],
    );
    return rows;
  };
  const [counts, instances, nodes, recent, removals, proofs] = await Promise.all([
    db.raw<{ rows: Omit<Overview, 'instances' | 'nodes' | 'recent' | 'removals' | 'proofs'>[] }>(`
      select (select count(*) from users) as "users", (select count(*) from images) as "images",
             (select count(*) from images where status = 'built and pushed') as "imagesBuilt",
             (select count(*) from chutes) as "chutes", (select count(*) from chutes where public) as "publicChutes",
             (select count(*) from instances where active) as "instancesActive",
             (select count(*) from nodes where verified_at is not null) as "nodesVerified"`),
    byTrust('instances'),
    byTrust('nodes'),
    db.raw<{ rows: RecentInstance[] }>(
      `select i.instance_id as "instanceId", case when c.public then c.name else 'private chute' end as "chuteName",
              i.miner_hotkey as "minerHotkey", i.gpu_count as "gpuCount", i.gpu_model_name as "gpuModelName",
              i.trust_level as "trustLevel", i.active, i.verified, i.created_at as "createdAt"
         from instances i join chutes c using (chute_id) order by i.created_at desc limit ?`,
      [RECENT],
    ),
    db.raw<{ rows: RecentRemoval[] }>(
      `select instance_id as "instanceId", miner_hotkey as "minerHotkey", removal_code as code, deletion_reason as reason,
              trust_level as "trustLevel", deleted_at as "deletedAt"
         from instance_audit where deleted_at is not null order by deleted_at desc limit ?`,
      [RECENT],
    ),
    db.raw<{ rows: RecentProof[] }>(
      `select uuid as "gpuUuid", gpu_identifier as "gpuType", miner_hotkey as "minerHotkey", status, trust_level as "trustLevel",
              verification_error as reason, verified_at as "verifiedAt",
              coalesce((proof_summary->'gpus'->0->>'bytesFilled')::bigint, 0) as "bytesFilled",
              coalesce((proof_summary->'gpus'->0->>'samplesChecked')::integer, 0) as "samplesChecked",
              (proof_summary->>'fillMs')::double precision as "fillMs", (proof_summary->>'walkMs')::double precision as "walkMs",
              coalesce(proof_summary->'gpus'->0->'record'->>'key' is not null, false) as "isRecorded"
         from nodes where proof_summary is not null order by verified_at desc nulls first, uuid limit ?`,
      [RECENT],
    ),
  ]);
  const row = counts.rows[0];
  if (!row) throw new Error('counting answered no row');
  return { ...row, instances, nodes, recent: recent.rows, removals: removals.rows, proofs: proofs.rows };
}
