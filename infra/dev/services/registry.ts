import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { answers, startService, type Service } from './child.ts';

export interface RegistryOptions {
  /** `docker-registry` of Debian, or upstream's `registry` */
  binary: string;
  dir: string;
  port: number;
  logFile: string;
}

/** An OCI registry on loopback. The packaged configuration listens on every interface, so it gets one of its own. */
export async function startRegistry({ binary, dir, port, logFile }: RegistryOptions): Promise<Service> {
  const data = join(dir, 'data');
  await mkdir(data, { recursive: true });
  const config = join(dir, 'registry.yml');
  await writeFile(
    config,
    [
      'version: 0.1',
      'log: {level: warn}',
      `storage: {filesystem: {rootdirectory: ${JSON.stringify(data)}}, delete: {enabled: true}}`,
      `http: {addr: "127.0.0.1:${port}"}`,
      '',
    ].join('\n'),
  );
  return startService({
    name: 'registry',
    command: binary,
    args: ['serve', config],
    logFile,
    isReady: () => answers(`http://127.0.0.1:${port}/v2/`),
  });
}
