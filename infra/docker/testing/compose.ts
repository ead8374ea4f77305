import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';

/** docker-compose.yml as far as its own tests look at it. */
export interface ComposeService {
  build?: unknown;
  image: string;
  command?: string[];
  environment?: Record<string, string>;
  ports?: string[];
  network_mode?: string;
  read_only?: boolean;
  cap_drop?: string[];
  security_opt?: string[];
  restart?: string;
  tmpfs?: string[];
  volumes?: string[];
  healthcheck?: { test: string[] };
}

const FILE = join(import.meta.dirname, '../../../docker-compose.yml');
export const composeText = readFileSync(FILE, 'utf8');
export const { services } = parse(composeText, { merge: true }) as { services: Record<string, ComposeService> };

/** The programs of ARCHITECTURE.md among the services. */
export const programs = Object.entries(services).filter(([, { command }]) =>
  /^(api|workers)\//.test(command?.[0] ?? ''),
);
export const portOf = ({ environment = {} }: ComposeService): string | undefined =>
  environment.CANOPY_LISTEN_PORT ?? environment.CANOPY_METRICS_PORT;

/** Every `${NAME:?}` replaced by what `valueOf` gives for it. */
export const fillIn = (text: string, valueOf: (name: string) => string): string =>
  text.replace(/\$\{([A-Z0-9_]+):\?\}/g, (_, name: string) => valueOf(name));
