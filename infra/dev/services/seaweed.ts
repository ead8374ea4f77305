import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BlobStore } from '../../../activities/clients/s3.ts';
import { answers, startService, type Service } from './child.ts';

export interface SeaweedOptions {
  binary: string;
  dir: string;
  bucket: string;
  accessKey: string;
  secretKey: string;
  logFile: string;
  /** each also takes port + 10000 */
  ports: { s3: number; master: number; volume: number; filer: number; admin: number };
}

/** S3 for one machine. Telemetry is off and every address is loopback: both are not the defaults. */
export async function startSeaweed({
  binary,
  dir,
  bucket,
  accessKey,
  secretKey,
  logFile,
  ports,
}: SeaweedOptions): Promise<Service & { endpoint: string }> {
  const data = join(dir, 'data');
  await mkdir(data, { recursive: true });
  const identities = join(dir, 's3.json');
  const actions = ['Admin', 'Read', 'List', 'Tagging', 'Write'];
  await writeFile(
    identities,
    JSON.stringify({ identities: [{ name: 'canopy', credentials: [{ accessKey, secretKey }], actions }] }),
  );
  await chmod(identities, 0o600);
  const endpoint = `http://127.0.0.1:${ports.s3}`;
  const service = await startService({
    name: 'seaweedfs',
    command: binary,
    args: [
      '-logtostderr=true',
      'mini',
      `-dir=${data}`,
      '-ip=127.0.0.1',
      '-ip.bind=127.0.0.1',
      `-s3.port=${ports.s3}`,
      `-s3.config=${identities}`,
      '-s3.port.iceberg=0',
      '-s3.port.lance=0',
      '-webdav=false',
      '-admin.ui=false',
      `-admin.port=${ports.admin}`,
      '-master.telemetry=false',
      `-bucket=${bucket}`,
      `-master.port=${ports.master}`,
      `-volume.port=${ports.volume}`,
      `-filer.port=${ports.filer}`,
      '-volume.max=16',
      '-master.volumeSizeLimitMB=256',
    ],
    env: { ...process.env, GOMEMLIMIT: '150MiB' },
    logFile,
    isReady: () => answers(`${endpoint}/healthz`),
  });
  const store = new BlobStore({ endpoint, region: 'us-east-1', bucket, accessKey, secretKey });
  const deadline = Date.now() + 20_000;
  for (;;) {
    try {
      await store.put('.ready', ''); // healthy comes before writable
      break;
    } catch (err) {
      if (Date.now() > deadline) {
        await service.stop();
        throw err;
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  store.close();
  return { ...service, endpoint };
}
