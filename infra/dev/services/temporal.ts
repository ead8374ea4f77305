import { startService, answers, type Service } from './child.ts';
import { SEARCH_ATTRIBUTES } from '../../../workflows/search-attributes.ts';

export interface TemporalOptions {
  binary: string;
  port: number;
  httpPort: number;
  uiPort?: number;
  metricsPort: number;
  /** unset: in memory */
  dbFile?: string;
  namespaces: string[];
  logFile: string;
}

/** Temporal's one-process server. The settings trade a power cut's last writes for speed; a killed process loses none. */
export function startTemporal({
  binary,
  port,
  httpPort,
  uiPort,
  metricsPort,
  dbFile,
  namespaces,
  logFile,
}: TemporalOptions): Promise<Service> {
  return startService({
    name: 'temporal',
    command: binary,
    args: [
      'server',
      'start-dev',
      '--ip',
      '127.0.0.1',
      '--port',
      String(port),
      '--http-port',
      String(httpPort),
      '--metrics-port',
      String(metricsPort),
      '--log-format',
      'json',
      '--log-level',
      'warn',
      ...(uiPort === undefined ? ['--headless'] : ['--ui-port', String(uiPort), '--ui-disable-news-fetch']),
      ...(dbFile
        ? ['--db-filename', dbFile, '--sqlite-pragma', 'journal_mode=WAL', '--sqlite-pragma', 'synchronous=OFF']
        : []),
      ...namespaces.flatMap((namespace) => ['--namespace', namespace]),
      ...Object.values(SEARCH_ATTRIBUTES).flatMap((key) => ['--search-attribute', `${key.name}=Keyword`]),
      '--dynamic-config-value',
      'history.transferProcessorMaxPollRPS=60',
    ],
    logFile,
    isReady: () => answers(`http://127.0.0.1:${httpPort}/api/v1/namespaces/${namespaces[0] ?? 'default'}`),
  });
}
