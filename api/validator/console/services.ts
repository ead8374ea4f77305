import { z } from 'zod';
import type { ValidatorDeps } from '../deps.ts';

const services = z.array(
  z.object({
    name: z.string(),
    url: z.string().optional(),
    kind: z.string().optional(),
    /** answers below 500 when it serves; asked from here, never shown */
    healthUrl: z.string().optional(),
  }),
);

/** One line of "what runs". `isUp` null: listed by the operator, not checked from here. */
export interface Service {
  name: string;
  kind: string;
  url: string | null;
  isUp: boolean | null;
}

const CHECK_MS = 2_000;

/** CANOPY_SERVICES as it was written, each asked for its health where it says how; a list that cannot be read is none. */
export async function listedServices(json: string): Promise<Service[]> {
  return Promise.all(
    readServices(json).map(async ({ name, url, kind, healthUrl }) => ({
      name,
      kind: kind ?? 'service',
      url: url ?? null,
      isUp: healthUrl === undefined ? null : await holds(() => answers(healthUrl)),
    })),
  );
}

function readServices(json: string): z.output<typeof services> {
  try {
    return services.parse(JSON.parse(json));
  } catch {
    return [];
  }
}

async function answers(url: string): Promise<void> {
  const response = await fetch(url, { signal: AbortSignal.timeout(CHECK_MS), redirect: 'manual' });
  await response.body?.cancel();
  if (response.status >= 500) throw new Error(`answered ${response.status}`);
}

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
