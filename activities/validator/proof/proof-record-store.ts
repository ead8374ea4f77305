import type { Knex } from 'knex';
import type { ProofSummary } from '../../../workflows/domain/proof/plugin.ts';

export type GpuProof = ProofSummary['gpus'][number];

/** The last proof of a GPU of the inventory; null where there is no such GPU, or it was never proven. */
export async function proofOfNode(db: Knex, uuid: string): Promise<GpuProof | null> {
  const row: { proof_summary: ProofSummary | null } | undefined = await db('nodes')
    .where({ uuid })
    .first('proof_summary');
  return ofGpu(row?.proof_summary, uuid);
}

/** What an instance was let in with, or what it was turned away for: then the audit row has it as evidence. */
export async function proofOfInstance(db: Knex, instanceId: string, gpuUuid: string): Promise<GpuProof | null> {
  const row: { proof_summary: ProofSummary | null } | undefined = await db('instances')
    .where({ instance_id: instanceId })
    .first('proof_summary');
  if (row) return ofGpu(row.proof_summary, gpuUuid);
  const audit: { proof: ProofSummary | null } | undefined = await db('instance_audit')
    .where({ instance_id: instanceId })
    .first(db.raw("evidence->'proof' as proof"));
  return ofGpu(audit?.proof, gpuUuid);
}

const ofGpu = (summary: ProofSummary | null | undefined, uuid: string): GpuProof | null =>
  summary?.gpus.find(({ gpuUuid }) => gpuUuid === uuid) ?? null;

/** Keys of the proof files that a node or a running instance has as its own. */
export async function proofFilesInUse(db: Knex): Promise<Set<string>> {
  const { rows }: { rows: { key: string }[] } = await db.raw(`
    select jsonb_path_query(proof_summary, '$.gpus[*].record.key') #>> '{}' as key from nodes
    union
    select jsonb_path_query(proof_summary, '$.gpus[*].record.key') #>> '{}' from instances`);
  return new Set(rows.map(({ key }) => key));
}
