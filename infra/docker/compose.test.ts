import { describe, expect, test } from '@jest/globals';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadAgentConfig } from '../../workers/config/agent.ts';
import { loadGpuWorkerConfig } from '../../workers/config/gpu-worker.ts';
import { loadMinerConfig } from '../../workers/config/miner.ts';
import { loadForgeConfig, loadValidatorConfig } from '../../workers/config/validator.ts';
import { composeText, fillIn, portOf, programs, services, type ComposeService } from './testing/compose.ts';

const ROOT = join(import.meta.dirname, '../..');
const example = readFileSync(join(import.meta.dirname, '.env.example'), 'utf8');

/** Every `${NAME:?}` gets a value of the form its setting wants. */
const filled = (value: string): string =>
  fillIn(value, (name) =>
    name === 'PUBLIC_URL'
      ? 'http://127.0.0.1:8000'
      : name.endsWith('HOTKEY')
        ? '5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY'
        : 'a'.repeat(64),
  );
const LOADERS = {
  agent: loadAgentConfig,
  miner: loadMinerConfig,
  forge: loadForgeConfig,
  'gpu-worker': loadGpuWorkerConfig,
};
const loaderOf = (entry: string) =>
  Object.entries(LOADERS).find(([name]) => entry.includes(name))?.[1] ?? loadValidatorConfig;
const environmentOf = (service: ComposeService) =>
  Object.fromEntries(Object.entries(service.environment ?? {}).map(([name, value]) => [name, filled(value)]));

test('every program of ARCHITECTURE.md is a service, but the runtime, which the compute driver starts', () => {
  const entries = [
    ...readFileSync(join(ROOT, 'ARCHITECTURE.md'), 'utf8').matchAll(
      /^\| [a-zA-Z ()]+ \| `((?:api|workers)\/[^`]+\.ts)`/gm,
    ),
  ].map(([, entry]) => entry);
  expect(new Set(programs.map(([, service]) => service.command?.[0]))).toEqual(
    new Set(entries.filter((entry) => entry !== 'api/instance/main.ts')),
  );
});

describe.each(programs)('%s', (_, service) => {
  const entry = service.command?.[0] ?? '';
  test('its command is a program of this repository', () => expect(existsSync(join(ROOT, entry))).toBe(true));

  test('its configuration loads, and every variable of it is one the program knows', () => {
    const given = environmentOf(service);
    const config = loaderOf(entry)(given);
    expect(Object.keys(given).filter((name) => !(name in config))).toEqual([]);
  });

  test('it writes to mounts alone, and all it is told to write is on one', () => {
    expect(service.read_only).toBe(true);
    const mounts = [...(service.tmpfs ?? []), ...(service.volumes ?? [])].map(
      (mount) => /\/(tmp|data|config)\b/.exec(mount)?.[0],
    );
    const { CANOPY_WORK_DIR: work, CANOPY_SPOOL_DIR: spool } = service.environment ?? {};
    for (const dir of [work, spool])
      if (dir) expect([dir, mounts]).toEqual([expect.stringMatching(/^\/data\//), expect.arrayContaining(['/data'])]);
  });

  test('it is started again, and its health is asked on the port it listens on', () => {
    expect(service.restart).toBe('unless-stopped');
    const [, program, script, url] = service.healthcheck?.test ?? [];
    expect([program, existsSync(join(ROOT, script ?? ''))]).toEqual(['node', true]);
    expect(new URL(url ?? '').host).toBe(`127.0.0.1:${portOf(service)}`);
  });

  test('the services it names exist', () => {
    const names = Object.values(environmentOf(service)).flatMap((value) =>
      [...value.matchAll(/(?:\/\/|@|^)([a-z0-9-]+):[0-9]{4}\b/g)].map(([, host]) => host ?? ''),
    );
    expect([...new Set(names)].filter((name) => !(name in services))).toEqual([]);
  });
});

test('programs share one loopback: no two listen on one port, and addresses name the program that is meant', () => {
  const [network, ...others] = new Set(programs.map(([, service]) => service.network_mode));
  expect([network, others]).toEqual(['service:loopback', []]);
  const owners = new Map(programs.map(([name, service]) => [portOf(service), name]));
  expect(owners.size).toBe(programs.length);
  const meant = {
    CANOPY_API_UPSTREAM: 'validator-api',
    CANOPY_SOCKETS_UPSTREAM: 'sockets',
    CANOPY_VALIDATOR_URL: 'gateway',
    CANOPY_SOCKET_URL: 'gateway',
  };
  for (const [, service] of programs) {
    for (const [name, owner] of Object.entries(meant)) {
      const value = service.environment?.[name];
      if (value) expect([name, owners.get(new URL(value).port)]).toEqual([name, owner]);
    }
  }
});

test('published ports are those of programs that listen beyond loopback, and reach this host only', () => {
  const published = services.loopback?.ports ?? [];
  const open = programs
    .filter(([, { environment }]) => environment?.CANOPY_LISTEN_HOST === '0.0.0.0')
    .map(([, service]) => portOf(service));
  expect(published).toEqual(open.map((port) => `127.0.0.1:${port}:${port}`));
});

test('what runs our image can build it, and migrates before programs start', () => {
  const ours = Object.entries(services).filter(([, { image }]) => image === 'canopy:local');
  expect(ours.filter(([, { build }]) => build === undefined)).toEqual([]);
  for (const schema of ['validator', 'miner'])
    expect(services[`migrate-${schema}`]?.command).toEqual(['infra/migrations/cli.ts', schema, 'up']);
});

test('who runs what developers upload is given no key of the network', () => {
  const given = JSON.stringify(services['forge-worker']?.environment);
  expect(given).not.toMatch(/SEED|PEPPER|SECRETS_KEY|LAUNCH_KEY/);
});

test('what an operator must set is in the example, and nothing else', () => {
  const wanted = new Set([...composeText.matchAll(/\$\{([A-Z0-9_]+):\?\}/g)].map(([, name]) => name));
  const listed = [...example.matchAll(/^([A-Z0-9_]+)=/gm)].map(([, name]) => name);
  expect(new Set(listed)).toEqual(wanted);
});

test('validator and miner are given no secret of each other', () => {
  const secretsOf = (pattern: RegExp) =>
    new Set(
      programs
        .filter(([name]) => pattern.test(name))
        .flatMap(([, service]) =>
          [...JSON.stringify(service.environment).matchAll(/\$\{([A-Z0-9_]+):\?\}/g)].map(([, name]) => name),
        ),
    );
  const shared = [...secretsOf(/^(miner|agent)/)].filter((name) =>
    secretsOf(/^(gateway|validator|sockets|forge|gpu)/).has(name),
  );
  expect(shared).toEqual([]);
});

test('every search attribute of the workflows is created', () => {
  const names = [
    ...readFileSync(join(ROOT, 'workflows/search-attributes.ts'), 'utf8').matchAll(/'(Canopy[A-Za-z]+)'/g),
  ].map(([, name]) => name ?? '');
  expect(names.length).toBeGreaterThan(0);
  const init = JSON.stringify(services['temporal-init']);
  expect(names.filter((name) => !init.includes(name))).toEqual([]);
});
