import type { Knex } from 'knex';
import type { BuildLogLine } from '../../../workflows/domain/images/build-log.ts';

interface LogRow {
  seq: number;
  at_ms: number;
  log_type: 'stdout' | 'stderr';
  log: string;
}

export type BuildLogStore = ReturnType<typeof createBuildLogStore>;

/** Lines of running and lately finished builds; older logs are only in S3. */
export function createBuildLogStore(db: Knex) {
  const readFrom = async (imageId: string, fromSeq: number, limit: number): Promise<BuildLogLine[]> => {
    const rows = await db<LogRow & { image_id: string }>('image_build_log')
      .where({ image_id: imageId })
      .where('seq', '>=', fromSeq)
      .orderBy('seq')
      .limit(limit);
    return rows.map((row) => ({ seq: row.seq, atMs: row.at_ms, logType: row.log_type, log: row.log }));
  };
  return {
    readFrom,

    /** Idempotent by (image, seq). Nothing is written for an image that is gone. */
    async append(imageId: string, lines: readonly BuildLogLine[]): Promise<void> {
      if (lines.length === 0) return;
      await db.raw(
        `insert into image_build_log (image_id, seq, at_ms, log_type, log)
         select i.image_id, l.seq, l.at_ms, l.log_type, l.log
         from images i, jsonb_to_recordset(?::jsonb) as l(seq bigint, at_ms bigint, log_type text, log text)
         where i.image_id = ? on conflict do nothing`,
        [
          JSON.stringify(
            lines.map((line) => ({ seq: line.seq, at_ms: line.atMs, log_type: line.logType, log: line.log })),
          ),
          imageId,
        ],
      );
    },

    /** The log as one text, a line each. */
    async text(imageId: string): Promise<string> {
      const parts: string[] = [];
      let fromSeq = 0;
      for (;;) {
        const lines = await readFrom(imageId, fromSeq, 5_000);
        const last = lines.at(-1);
        if (!last) return parts.join('');
        for (const { log } of lines) parts.push(log, '\n');
        fromSeq = last.seq + 1;
      }
    },

    /** Forgets lines of builds that ended more than a day ago: readers that were mid-stream then have long finished. */
    async prune(): Promise<void> {
      await db.raw(
        `delete from image_build_log l using images i where i.image_id = l.image_id and i.build_completed_at < now() - interval '1 day'`,
      );
    },
  };
}
