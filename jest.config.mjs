/** What compiles gpu/: a run of its own (`npm test -- --only native`), with every `*.native.test.ts`. */
export const NATIVE = ['infra/dev/build-gpu\\.test', 'activities/clients/graval\\.test'];

/** ESM + TypeScript through swc; real servers come from the global setup, once per run. */
export default {
  testEnvironment: 'node',
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      { jsc: { parser: { syntax: 'typescript' }, target: 'es2024' }, module: { type: 'es6' } },
    ],
  },
  testMatch: ['**/*.test.ts'],
  testPathIgnorePatterns: ['/node_modules/', '/.canopy/', '\\.(e2e|native)\\.test\\.ts$', ...NATIVE],
  modulePathIgnorePatterns: ['<rootDir>/.canopy'],
  watchPathIgnorePatterns: ['<rootDir>/.canopy'],
  globalSetup: '<rootDir>/workers/testing/global-setup.mjs',
  globalTeardown: '<rootDir>/workers/testing/global-teardown.mjs',
  testTimeout: 60_000,
  maxWorkers: 2,
};
