import base, { NATIVE } from './jest.config.mjs';

/** The C++ side of the proof: built, compared with the TypeScript, run under sanitizers and fuzzed for a while. */
const { globalSetup: _setup, globalTeardown: _teardown, ...rest } = base;
export default {
  ...rest,
  testMatch: [...NATIVE.map((path) => `**/${path.replaceAll('\\', '')}.ts`), '**/*.native.test.ts'],
  testPathIgnorePatterns: ['/node_modules/', '/.canopy/'],
  testTimeout: 300_000,
};
