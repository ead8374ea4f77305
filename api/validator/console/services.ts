import { z } from 'zod';
import type { ValidatorDeps } from '../deps.ts';

const services = z.array(z.object({ name: z.string(), url: z.string().optional(), kind: z.string().optional() }));

/** One line of "what runs". `isUp` null: listed by the operator, not checked from here. */
export interface Service {
  name: string;
  kind: string;
  url: string | null;
  isUp: boolean | null;
}

/** CANOPY_SERVICES as it was written; a list that cannot be read is shown as none. */
export function listedServices(json: string): Service[] {
  try {
    return services
      .parse(JSON.parse(json))
      .map(({ name, url, kind }) => ({ name, kind: kind ?? 'service', url: url ?? null, isUp: null }));
  } catch {
    return [];
  }
}

const CHECK_MS = 2_000;

async function holds(check: () => Promise<unknown>): Promise<boolean> {
  let late: NodeJS.Timeout | undefined;
  try {
    await Promise.race([
      check(),
      new Promise((_resolve, reject) => (late = setTimeout(() => reject(new Error('too slow')), CHECK_MS))),
    ]);
    return true;
  } catch {
    return false;
  } finally {
    clearTimeout(late);
  }
}

export const isDatabaseUp = ({ db }: Pick<ValidatorDeps, 'db'>): Promise<boolean> => holds(() => db.raw('select 1'));

/** The parts this API stands on, each asked now and given two seconds. */
export async function checkParts({
  db,
  temporal,
  blobs,
}: Pick<ValidatorDeps, 'db' | 'temporal' | 'blobs'>): Promise<Record<'postgres' | 'temporal' | 's3', boolean>> {
  const [postgres, temporalUp, s3] = await Promise.all([
    isDatabaseUp({ db }),
    holds(() =>
      temporal.connection.withDeadline(Date.now() + CHECK_MS, () => temporal.workflowService.getSystemInfo({})),
    ),
    holds(() => blobs.sizeBytes('health')),
  ]);
  return { postgres, temporal: temporalUp, s3 };
}
