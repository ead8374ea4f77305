import { setTimeout } from 'node:timers/promises';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { SEARCH_ATTRIBUTES } from '../../workflows/search-attributes.ts';

const KEYWORD = 2; // temporal.api.enums.v1.IndexedValueType

/** Months in milliseconds; no schedules and no listing here (use the real server for those). Tear it down in afterAll. */
export async function createTimeSkippingEnvironment(): Promise<TestWorkflowEnvironment> {
  const path = process.env.CANOPY_TEST_TIME_SKIPPING;
  if (!path) throw new Error('tests run through jest, whose global setup prepares the time-skipping server');
  const env = await startPatiently(path);
  freeStuckClock(env);
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

const WATCH_MS = 3_000;

/**
 * The test server sometimes keeps its clock locked: after an activity that failed, and on a busy machine (sdk-java issues
 * 1138 and 2246 among others). Sleeps then take their real time. Where during a sleep or the wait for a result the
 * server's clock has run no faster than ours for three seconds, the lock that nobody holds is taken off.
 */
function freeStuckClock(env: TestWorkflowEnvironment): void {
  const { sleep } = env;
  const { workflow } = env.client;
  const result = workflow.result.bind(workflow);
  const freed = async <T>(waiting: Promise<T>): Promise<T> => {
    let ended = false;
    const wait = waiting.finally(() => (ended = true));
    void freeWhile(env, () => !ended).catch(() => undefined); // the environment is gone: the wait itself says so
    return wait;
  };
  env.sleep = (duration) => freed(sleep(duration));
  workflow.result = (...args) => freed(result(...args));
}

async function freeWhile(env: TestWorkflowEnvironment, isWaiting: () => boolean): Promise<void> {
  const lead = async (): Promise<number> => (await env.currentTimeMs()) - Date.now();
  let last = await lead();
  for (;;) {
    await setTimeout(WATCH_MS, undefined, { ref: false });
    if (!isWaiting()) return;
    const now = await lead();
    if (!isWaiting()) return;
    // refused where no lock is left
    if (now - last < WATCH_MS) await env.connection.testService?.unlockTimeSkipping({}).catch(() => undefined);
    last = now;
  }
}
