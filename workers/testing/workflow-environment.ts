import { TestWorkflowEnvironment } from '@temporalio/testing';
import { SEARCH_ATTRIBUTES } from '../../workflows/search-attributes.ts';

const KEYWORD = 2; // temporal.api.enums.v1.IndexedValueType

/** Months in milliseconds; no schedules and no listing here (use the real server for those). Tear it down in afterAll. */
export async function createTimeSkippingEnvironment(): Promise<TestWorkflowEnvironment> {
  const path = process.env.CANOPY_TEST_TIME_SKIPPING;
  if (!path) throw new Error('tests run through jest, whose global setup prepares the time-skipping server');
  const env = await startPatiently(path);
  // Without them every upsert fails its workflow task, silently and for ever.
  await env.connection.operatorService.addSearchAttributes({
    namespace: env.namespace ?? 'default',
    searchAttributes: Object.fromEntries(Object.values(SEARCH_ATTRIBUTES).map(({ name }) => [name, KEYWORD])),
  });
  return env;
}

/** The SDK gives a server 5 s; a JVM on a machine that does ten other things may need more. */
const START_TRIES = 6;
async function startPatiently(path: string): Promise<TestWorkflowEnvironment> {
  for (let tries = 1; ; tries++) {
    try {
      return await TestWorkflowEnvironment.createTimeSkipping({
        server: { executable: { type: 'existing-path', path } },
      });
    } catch (err) {
      if (tries >= START_TRIES) throw err;
    }
  }
}

/** The run's real server, namespace `validator`: visibility, schedules, queries across processes. */
export async function connectTestTemporal(namespace = 'validator'): Promise<TestWorkflowEnvironment> {
  const address = process.env.CANOPY_TEST_TEMPORAL;
  if (!address) throw new Error('tests run through jest, whose global setup starts Temporal');
  return TestWorkflowEnvironment.createFromExistingServer({ address, namespace });
}

/**
 * A workflow's result in skipped time. The test server sometimes keeps its clock locked after an activity has failed: when
 * nothing has ended for two real seconds, the lock that nobody holds is taken off, and the clock goes on.
 */
export async function resultInSkippedTime<T>(
  { connection }: TestWorkflowEnvironment,
  handle: { result: () => Promise<T> },
): Promise<T> {
  const result = handle.result();
  const ended = result.then(
    () => true,
    () => true,
  );
  for (;;) {
    let late: NodeJS.Timeout | undefined;
    const stuck = new Promise<boolean>((resolve) => (late = setTimeout(() => resolve(false), 2000)));
    if (await Promise.race([ended, stuck]).finally(() => clearTimeout(late))) return result;
    await connection.testService?.unlockTimeSkipping({}).catch(() => undefined); // refused where no lock is left
  }
}
