import { TestWorkflowEnvironment } from '@temporalio/testing';

/** Months in milliseconds; no schedules and no listing here (use the real server for those). Tear it down in afterAll. */
export async function createTimeSkippingEnvironment(): Promise<TestWorkflowEnvironment> {
  const path = process.env.CANOPY_TEST_TIME_SKIPPING;
  if (!path) throw new Error('tests run through jest, whose global setup prepares the time-skipping server');
  return TestWorkflowEnvironment.createTimeSkipping({ server: { executable: { type: 'existing-path', path } } });
}

/** The run's real server, namespace `validator`: visibility, schedules, queries across processes. */
export async function connectTestTemporal(namespace = 'validator'): Promise<TestWorkflowEnvironment> {
  const address = process.env.CANOPY_TEST_TEMPORAL;
  if (!address) throw new Error('tests run through jest, whose global setup starts Temporal');
  return TestWorkflowEnvironment.createFromExistingServer({ address, namespace });
}

