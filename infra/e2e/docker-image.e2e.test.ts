import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import getPort from 'get-port';
import { detectContainerRuntime } from '../dev/base-images/detect.ts';
import { startPostgres } from '../dev/services/postgres.ts';
import { startTemporal } from '../dev/services/temporal.ts';
import type { Service } from '../dev/services/child.ts';
import { ensureTools } from '../dev/toolchain.ts';
import { fillIn, portOf, programs, services } from '../docker/testing/compose.ts';
import { IMAGE, ImageStore } from '../docker/testing/image-store.ts';
import { writeEnv } from '../docker/write-env.ts';
import { minerNamespace, VALIDATOR_NAMESPACE } from '../../workflows/ids.ts';

/**
 * The image of Canopy's programs, built by buildah on a local base without a network, and every program of
 * docker-compose.yml run by podman as it says there: command, environment, mounts, health check.
 */
const BOOTED = programs.map(([name]) => name);
const ROOT = join(import.meta.dirname, '../..');
const STOPS_WITHIN_MS = 10_000;
const HEALTHY_WITHIN_MS = 60_000;
const containers = await detectContainerRuntime();

if (!containers.podman) {
  test(`no image is built and booted here, because ${containers.why}; what it would run is there`, () => {
    const entries = BOOTED.map((name) => services[name]?.command?.[0] ?? 'none');
    const missing = [...entries, 'infra/docker/healthcheck.mjs', 'infra/migrations/cli.ts'].filter(
      (entry) => !existsSync(join(ROOT, entry)),
    );
    expect(missing).toEqual([]);
  });
} else {
  describe('the image', () => {
    bootTheImage();
  });
}

function bootTheImage(): void {
  let store: ImageStore;
  let sizeBytes = 0;
  const stores: Service[] = [];
  /** what compose's addresses are on this machine, and its variables */
  const addresses: Record<string, string> = {};
  const ports = new Map<string, string>();
  let variables: Record<string, string> = {};

  beforeAll(async () => {
    store = await ImageStore.open();
    await chmod(store.dir, 0o755); // Postgres runs as a user of its own when we are root
    await writeEnv(store.dir);
    const text = await readFile(join(store.dir, '.env'), 'utf8');
    variables = Object.fromEntries([...text.matchAll(/^([A-Z0-9_]+)=(.*)$/gm)].map(([, name, value]) => [name, value]));
    const free = () => getPort({ host: '127.0.0.1' });
    const [postgresPort, temporalPort] = [await free(), await free()];
    for (const name of BOOTED) ports.set(name, String(await free()));
    addresses['postgres:5432'] = `127.0.0.1:${postgresPort}`;
    addresses['temporal:7233'] = `127.0.0.1:${temporalPort}`;
    const toolsDir = process.env.CANOPY_TOOLS_DIR ?? join(ROOT, '.canopy/tools');
    await mkdir(toolsDir, { recursive: true });
    const { temporal } = await ensureTools(toolsDir, (message) => process.stderr.write(`${message}\n`));
    const logFile = (name: string) => join(store.dir, `${name}.log`);
    const postgres = await startPostgres({
      dir: join(store.dir, 'postgres'),
      port: postgresPort,
      password: 'test',
      logFile: logFile('postgres'),
      ephemeral: true,
    });
    stores.push(postgres);
    for (const owner of ['validator', 'miner'])
      await postgres.ensureDatabase(owner, owner, variables[`${owner.toUpperCase()}_DB_PASSWORD`] ?? '');
    stores.push(
      await startTemporal({
        binary: temporal,
        port: temporalPort,
        httpPort: await free(),
        metricsPort: await free(),
        namespaces: [VALIDATOR_NAMESPACE, minerNamespace(variables.MINER_HOTKEY ?? '')],
        logFile: logFile('temporal'),
      }),
    );
    sizeBytes = await store.build();
  }, 240_000);

  afterAll(async () => {
    await store?.remove();
    await Promise.all(stores.map((each) => each.stop()));
    if (store) expect(existsSync(store.dir)).toBe(false);
  }, 60_000);

  /** podman's flags for what compose says of a service. */
  function flagsOf(name: string): string[] {
    const service = services[name];
    const own = service && portOf(service);
    const rewrite = (text: string): string => {
      let filled = fillIn(text, (variable) => variables[variable] ?? '');
      for (const [from, to] of Object.entries(addresses)) filled = filled.replaceAll(from, to);
      return own && filled === own ? (ports.get(name) ?? own) : filled;
    };
    const environment = Object.entries(service?.environment ?? {}).map(([variable, value]) => [
      variable,
      rewrite(value),
    ]);
    const envFile = join(store.dir, `${name}.env`); // a failed command is printed: keys are not on it
    writeFileSync(envFile, environment.map((pair) => `${pair.join('=')}\n`).join(''), { mode: 0o600 });
    const volumes = (service?.volumes ?? []).map((volume) =>
      volume.startsWith('./') ? volume.replace('.', store.dir) : `${name}-${volume}`,
    );
    return [
      ...(service?.read_only ? ['--read-only', '--read-only-tmpfs=false'] : []),
      ...(service?.cap_drop ?? []).map((capability) => `--cap-drop=${capability}`),
      ...(service?.security_opt ?? []).map((option) => `--security-opt=${option.replace(':true', '')}`),
      ...(service?.tmpfs ?? []).map((mount) => `--tmpfs=${mount}`),
      ...volumes.map((volume) => `--volume=${volume}`),
      `--env-file=${envFile}`,
      '--network=host',
    ];
  }

  test('is small, runs as nobody special, and carries no key', async () => {
    process.stderr.write(`image: ${Math.round(sizeBytes / 1e6)} MB\n`);
    expect(sizeBytes).toBeLessThan(600e6);
    const inspect = (format: string) => store.podman('image', 'inspect', '--format', format, IMAGE);
    expect(await inspect('{{.User}}')).toBe('1000:1000');
    expect(await inspect('{{json .Config}}')).not.toContain('CANOPY_');
    const script = `console.log(['.env', '.git', '.canopy', 'node_modules/jest', 'node_modules/knex'].filter((name) => require('fs').existsSync(name)).join())`;
    expect(await store.podman('run', '--rm', '--network=none', IMAGE, '-e', script)).toBe('node_modules/knex');
  });

  test.each(['validator', 'miner'])('migrates the database of the %s, twice with one result', async (schema) => {
    const step = `migrate-${schema}`;
    for (const _ of [1, 2])
      expect(await store.podman('run', '--rm', ...flagsOf(step), IMAGE, ...(services[step]?.command ?? []))).toBe(
        `${schema}: schema is current`,
      );
  });

  test('boots every program: it answers its health check, writes to mounts alone, and ends on SIGTERM with 0', async () => {
    for (const name of BOOTED)
      await store.podman(
        'run',
        '--detach',
        '--name',
        name,
        ...flagsOf(name),
        IMAGE,
        ...(services[name]?.command ?? []),
      );
    await Promise.all(BOOTED.map((name) => healthy(name)));
    for (const name of BOOTED) {
      const asRoot = ['exec', '--user=0', name, 'node', '-p'];
      expect(await store.podman('exec', name, 'node', '-p', 'process.getuid()')).toBe('1000');
      expect(await store.podman(...asRoot, `try { fs.writeFileSync('/canopy/x', '') } catch (err) { err.code }`)).toBe(
        'EROFS',
      );
    }
    const stopped = performance.now();
    await Promise.all(BOOTED.map((name) => store.podman('kill', '--signal=TERM', name)));
    const codes = await Promise.all(BOOTED.map(async (name) => [name, await store.podman('wait', name)]));
    expect(codes).toEqual(BOOTED.map((name) => [name, '0']));
    expect(performance.now() - stopped).toBeLessThan(STOPS_WITHIN_MS);
  }, 150_000);

  /** Until it answers as a check would ask; then compose's own check, once, in the container. */
  async function healthy(name: string): Promise<void> {
    const service = services[name] ?? { image: '' };
    const [, ...command] = service.healthcheck?.test ?? [];
    const check = command.map((word) => word.replace(`:${portOf(service)}/`, `:${ports.get(name)}/`));
    const answers = () =>
      fetch(check.at(-1) ?? '', { signal: AbortSignal.timeout(3000) }).then(
        ({ ok }) => ok,
        () => false,
      );
    const deadline = performance.now() + HEALTHY_WITHIN_MS;
    while (!(await answers())) {
      const state = await store.podman('inspect', '--format', '{{.State.Status}}', name);
      if (state === 'exited' || performance.now() > deadline)
        throw new Error(`${name} is ${state} and not healthy\n${await store.logsOf(name)}`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    await store.podman('exec', name, ...check);
  }
}
