import { expect, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import getPort from 'get-port';
import { startRegistry } from '../services/registry.ts';
import { findOnPath } from '../toolchain.ts';
import { ensureBaseImage, writeContainerConfig } from './build-base.ts';
import { detectContainerRuntime } from './detect.ts';

const run = promisify(execFile);

// Containers are a choice of the machine: where it has none, `npm start` takes processes, and this says the reason.
test('the base is built once, and an SDK Dockerfile builds and runs on it', async () => {
  const found = await detectContainerRuntime();
  const binary = await findOnPath('docker-registry');
  if (!found.podman || !binary) {
    expect(found.why).not.toBe('');
    return;
  }
  const dir = await mkdtemp(join(tmpdir(), 'canopy-base-test-'));
  const port = await getPort({ host: '127.0.0.1' });
  const registry = `127.0.0.1:${port}`;
  const env = await writeContainerConfig({ dir: join(dir, 'containers'), registry });
  const service = await startRegistry({ binary, dir: join(dir, 'registry'), port, logFile: join(dir, 'registry.log') });
  const options = { env: { ...process.env, ...env } };
  try {
    await ensureBaseImage({ registry, dir, env });
    const again = performance.now();
    await ensureBaseImage({ registry, dir, env });
    expect(performance.now() - again).toBeLessThan(500);
    await writeFile(
      join(dir, 'Dockerfile'),
      'FROM parachutes/python:3.12\nRUN python3 -c "import ssl, json, http.server" && echo ok > /app/built\n',
    );
    await run('buildah', ['bud', '--quiet', '--network', 'none', '-t', 'localhost/on-base', dir], options);
    const { stdout } = await run(
      'podman',
      ['run', '--rm', '--network', 'none', 'localhost/on-base', 'cat', '/app/built'],
      options,
    );
    expect(stdout).toBe('ok\n');
  } finally {
    await service.stop();
    await run('umount', [join(dir, 'containers', 'storage', 'overlay')]).catch(() => undefined);
    await rm(dir, { recursive: true, force: true });
  }
}, 120_000);
