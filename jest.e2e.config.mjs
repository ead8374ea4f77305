import base from './jest.config.mjs';

/** Whole networks: each suite boots its own in a folder of its own, one after another. */
const { globalSetup: _setup, globalTeardown: _teardown, ...rest } = base;
export default {
  ...rest,
  testMatch: ['**/*.e2e.test.ts'],
  testPathIgnorePatterns: ['/node_modules/', '/.canopy/'],
  testTimeout: 300_000,
  maxWorkers: 1,
};
