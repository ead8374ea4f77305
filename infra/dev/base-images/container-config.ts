import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** Where podman and buildah look; everything they keep stays in `dir`, apart from whatever else runs on the machine. */
export async function writeContainerConfig({
  dir,
  registry,
}: {
  dir: string;
  registry: string;
}): Promise<Record<string, string>> {
  const root = resolve(dir);
  // Sockets live in the run root, and a socket's path may have 107 characters only.
  const runRoot = join(tmpdir(), `canopy-run-${createHash('sha256').update(root).digest('hex').slice(0, 8)}`);
  const files = {
    CONTAINERS_CONF: [
      '[containers]',
      'default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]',
      '[engine]',
      'runtime = "runc"', // crun fails on hybrid cgroups
      'cgroup_manager = "cgroupfs"',
      'events_logger = "file"',
    ],
    CONTAINERS_STORAGE_CONF: [
      '[storage]',
      'driver = "overlay"',
      `graphroot = ${JSON.stringify(join(root, 'storage'))}`,
      `runroot = ${JSON.stringify(runRoot)}`,
    ],
    // The SDK's default base, docker.io/parachutes/python:3.12, comes from the local registry.
    CONTAINERS_REGISTRIES_CONF: [
      'unqualified-search-registries = ["docker.io"]',
      'short-name-mode = "permissive"',
      '[[registry]]',
      'prefix = "docker.io/parachutes"',
      `location = "${registry}/parachutes"`,
      'insecure = true',
      '[[registry]]',
      `prefix = "${registry}"`,
      `location = "${registry}"`,
      'insecure = true',
    ],
  };
  await mkdir(root, { recursive: true });
  const env: Record<string, string> = {};
  for (const [name, lines] of Object.entries(files)) {
    env[name] = join(root, `${name.replace('CONTAINERS_', '').toLowerCase().replace('_', '-')}.toml`);
    await writeFile(env[name], `${lines.join('\n')}\n`);
  }
  return env;
}
