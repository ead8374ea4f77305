import type { Knex } from 'knex';

/** Which of these a sweep holds now, in the order of their uuids. Reads only: what a claim that waits looks at meanwhile. */
export const gpusInSweep = (db: Knex, { gpuUuids }: { gpuUuids: string[] }): Promise<string[]> =>
  db('nodes').whereIn('uuid', gpuUuids).whereRaw('sweep_until > now()').orderBy('uuid').pluck<string[]>('uuid');
