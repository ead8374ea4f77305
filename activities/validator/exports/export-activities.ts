import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { heartbeat } from '@temporalio/activity';
import type { Knex } from 'knex';
import type { BlobStore } from '../../clients/s3.ts';
import { exportPath, type ExportKind } from '../../../workflows/domain/metering/export-csv.ts';
import { csvOfHour, findExport, recordExport, unexportedHours, type StoredExport } from './export-store.ts';
import { ensurePartitions } from './partition-store.ts';

/** How long after an hour's end its last records are waited for: flushers run every second. */
const GRACE_MS = 120_000;
const DAYS_AHEAD = 7;
const HOURS_AT_ONCE = 100;

export function createExportActivities({
  db,
  blobs,
  now = Date.now,
}: {
  db: Knex;
  blobs: BlobStore;
  now?: () => number;
}) {
  return {
    makePartitions: (): Promise<string[]> => ensurePartitions(db, now(), DAYS_AHEAD),

    /** Ends of closed hours that have no complete set of files, oldest first; hours missed by an outage included. */
    listUnexportedHours: (): Promise<number[]> => unexportedHours(db, now() - GRACE_MS, HOURS_AT_ONCE),

    /** One file of one closed hour, stored once: a second run returns what the first one stored. */
    async exportHour({ kind, endMs }: { kind: ExportKind; endMs: number }): Promise<StoredExport> {
      const path = exportPath(kind, endMs);
      const known = await findExport(db, path);
      if (known) return known;
      const dir = await mkdtemp(join(tmpdir(), 'canopy-export-'));
      const file = join(dir, 'hour.csv');
      try {
        const written = await writeHour(db, kind, endMs, file);
        const objectKey = `exports/${written.sha256}.csv`;
        await blobs.putStream(objectKey, createReadStream(file), written.sizeBytes, 'text/csv');
        return await recordExport(db, { path, objectKey, ...written }, endMs);
      } finally {
        await rm(dir, { recursive: true, force: true });
      }
    },
  };
}
export type ExportActivities = ReturnType<typeof createExportActivities>;

async function writeHour(
  db: Knex,
  kind: ExportKind,
  endMs: number,
  file: string,
): Promise<Pick<StoredExport, 'sha256' | 'sizeBytes' | 'rowCount'>> {
  const hash = createHash('sha256');
  let [sizeBytes, rowCount] = [0, 0];
  const out = await open(file, 'w', 0o600);
  try {
    await db.transaction(
      async (trx) => {
        for await (const { text, rows } of csvOfHour(trx, kind, endMs)) {
          const bytes = Buffer.from(text);
          hash.update(bytes);
          sizeBytes += bytes.length;
          rowCount += rows;
          await out.write(bytes);
          heartbeat({ rowCount });
        }
      },
      { isolationLevel: 'repeatable read', readOnly: true },
    );
  } finally {
    await out.close();
  }
  return { sha256: hash.digest('hex'), sizeBytes, rowCount };
}
