import { cancellationSignal, heartbeat } from '@temporalio/activity';
import type { Knex } from 'knex';
import type { BlobStore } from '../../clients/s3.ts';
import { PROOF_FILES } from '../proof/proof-verification-activities.ts';
import { proofFilesInUse } from '../proof/proof-record-store.ts';

export interface SweepProofsDeps {
  db: Knex;
  blobs: Pick<BlobStore, 'list' | 'delete'>;
  /** how long a proof file is kept that is nobody's own */
  proofRetentionMs: number;
  nowMs?: () => number;
}

/** Openings as they were sent: once verified they are in the proof file, and a verification takes minutes. */
const OPENINGS_MS = 86_400_000;

/**
 * Deletes openings a day after they came, and proof files that no node and no instance points to once they are old: of earlier
 * proofs, of what is gone, of refused ones. Run twice it deletes what grew old in between.
 */
export async function sweepProofs({
  db,
  blobs,
  proofRetentionMs,
  nowMs = Date.now,
}: SweepProofsDeps): Promise<{ deleted: number }> {
  const inUse = await proofFilesInUse(db);
  let deleted = 0;
  for await (const page of blobs.list('proofs/')) {
    for (const { key, modifiedAt } of page) {
      const isFile = key.startsWith(`${PROOF_FILES}/`);
      const ageMs = nowMs() - modifiedAt.getTime();
      if (ageMs < (isFile ? proofRetentionMs : OPENINGS_MS) || inUse.has(key)) continue;
      cancellationSignal().throwIfAborted();
      await blobs.delete(key);
      deleted += 1;
      heartbeat({ deleted });
    }
    cancellationSignal().throwIfAborted();
    heartbeat({ deleted });
  }
  return { deleted };
}
