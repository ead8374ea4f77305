import { describe, expect, test } from '@jest/globals';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { loadAgentConfig } from '../../workers/config/agent.ts';
import { loadMinerConfig } from '../../workers/config/miner.ts';
import { loadValidatorConfig } from '../../workers/config/validator.ts';

const ROOT = join(import.meta.dirname, '../..');
interface Service {
  build?: unknown;
  command?: string[];
  environment?: Record<string, string>;
  ports?: string[];
  depends_on?: string[] | Record<string, unknown>;
}
const compose = parse(readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8'), { merge: true }) as {
  services: Record<string, Service>;
};
const example = readFileSync(join(import.meta.dirname, '.env.example'), 'utf8');
const programs = Object.entries(compose.services).filter(([, service]) => service.build !== undefined);

/** Every `${NAME:?}` gets a value of the form its setting wants. */
const filled = (value: string): string =>
  value.replace(/\$\{([A-Z0-9_]+):\?\}/g, (_, name: string) =>
    name === 'PUBLIC_URL'
      ? 'http://gateway:8000'
      : name.endsWith('HOTKEY')
        ? '5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY'
        : 'a'.repeat(64),
  );
const loaderOf = (entry: string) =>
  /agent/.test(entry) ? loadAgentConfig : /miner/.test(entry) ? loadMinerConfig : loadValidatorConfig;
const environmentOf = (service: Service) =>
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

  test('its published port is the one it listens on', () => {
    for (const port of service.ports ?? [])
      expect(port.split(':').at(-1)).toBe(service.environment?.CANOPY_LISTEN_PORT);
  });

  test('the services it names exist', () => {
    const names = Object.values(environmentOf(service)).flatMap((value) =>
      [...value.matchAll(/(?:\/\/|@|^)([a-z0-9-]+):[0-9]{4}\b/g)].map(([, host]) => host ?? ''),
    );
    expect([...new Set(names)].filter((name) => !(name in compose.services))).toEqual([]);
  });
});

test('addresses inside the network name the ports that services listen on', () => {
  for (const [, service] of programs) {
    for (const name of [
      'CANOPY_API_UPSTREAM',
      'CANOPY_SOCKETS_UPSTREAM',
      'CANOPY_VALIDATOR_URL',
      'CANOPY_SOCKET_URL',
    ]) {
      const value = service.environment?.[name];
      if (!value) continue;
      const { hostname, port } = new URL(value);
      expect([name, port]).toEqual([name, compose.services[hostname]?.environment?.CANOPY_LISTEN_PORT]);
    }
  }
});

test('what an operator must set is in the example, and nothing else', () => {
  const wanted = new Set(
    [...readFileSync(join(ROOT, 'docker-compose.yml'), 'utf8').matchAll(/\$\{([A-Z0-9_]+):\?\}/g)].map(
      ([, name]) => name,
    ),
  );
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
  const init = JSON.stringify(compose.services['temporal-init']);
  expect(names.filter((name) => !init.includes(name))).toEqual([]);
});
