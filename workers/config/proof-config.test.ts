import { expect, test } from '@jest/globals';
import { loadGpuWorkerConfig } from './gpu-worker.ts';
import { loadValidatorConfig } from './validator.ts';

const env = {
  CANOPY_DATABASE_URL: 'postgres://u@h/d',
  CANOPY_S3_ENDPOINT: 'http://s3',
  CANOPY_S3_BUCKET: 'b',
  CANOPY_S3_ACCESS_KEY: 'a',
  CANOPY_S3_SECRET_KEY: 's',
  CANOPY_PUBLIC_URL: 'http://v',
  CANOPY_VALIDATOR_SEED: '11'.repeat(32),
  CANOPY_KEY_PEPPER: '22'.repeat(32),
  CANOPY_SECRETS_KEY: '33'.repeat(32),
  CANOPY_LAUNCH_KEY: 'a launch key for tests',
};

test.each([
  ['development', 'none', true],
  ['development', 'simulated', true],
  ['development', 'povw', true],
  ['production', undefined, false],
  ['production', 'none', false],
  ['production', 'simulated', false],
  ['production', 'povw', true],
  ['development', 'attested', false],
])('%s with plug-in %s: %s', (mode, plugin, isAccepted) => {
  const load = () => loadValidatorConfig({ ...env, CANOPY_MODE: mode, ...(plugin ? { CANOPY_PROOF: plugin } : {}) });
  if (isAccepted) expect(load()).toMatchObject({ CANOPY_PROOF: plugin, CANOPY_PROOF_RETENTION_MS: 604_800_000 });
  else expect(load).toThrow('CANOPY_PROOF');
});

test('the GPU worker needs no key and no database; its verifier is a path or nothing', () => {
  expect(loadGpuWorkerConfig(env).CANOPY_GRAVAL).toBeUndefined();
  expect(loadGpuWorkerConfig({ ...env, CANOPY_GRAVAL: '/opt/graval' }).CANOPY_GRAVAL).toBe('/opt/graval');
  expect(Object.keys(loadGpuWorkerConfig(env))).not.toContain('CANOPY_SECRETS_KEY');
});
