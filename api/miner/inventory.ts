import type { Knex } from 'knex';
import { isUuid } from '../../workflows/domain/ids.ts';
import { renderDeployment, renderServer } from './servers/wire.ts';

type Row = Record<string, unknown>;

/** Server rows with what is on them, as the API renders them. `id` is a name or a server id. */
export async function listServers(db: Knex, id?: string): Promise<Row[]> {
  const servers: Row[] = await byId(db, id).orderBy('created_at');
  const serverIds = servers.map((server) => String(server.server_id));
  const gpus: Row[] = await db('gpus').whereIn('server_id', serverIds).orderBy('device_index');
  const deployments = await listDeployments(db, (query) => void query.whereIn('server_id', serverIds));
  return servers.map((server) =>
    renderServer(server, {
      gpus: gpus.filter((gpu) => gpu.server_id === server.server_id),
      deployments: deployments.filter((deployment) => deployment.server_id === server.server_id),
    }),
  );
}

const byId = (db: Knex, id?: string): Knex.QueryBuilder =>
  id === undefined ? db('servers') : db('servers').where(isUuid(id) ? { server_id: id } : { name: id });

export async function findServerId(db: Knex, id: string): Promise<string | null> {
  const row = await byId(db, id).first<{ server_id: string } | undefined>('server_id');
  return row?.server_id ?? null;
}

export async function listDeployments(db: Knex, where: (query: Knex.QueryBuilder) => void): Promise<Row[]> {
  const rows: Row[] = await db('deployments')
    .where((query) => where(query))
    .orderBy('created_at');
  const chutes: Row[] = await db('chutes').whereIn(
    'chute_id',
    rows.map((row) => String(row.chute_id)),
  );
  const gpus: Row[] = await db('gpus')
    .whereIn(
      'deployment_id',
      rows.map((row) => String(row.deployment_id)),
    )
    .orderBy('device_index');
  return rows.map((row) =>
    renderDeployment(row, {
      chute: chutes.find((chute) => chute.chute_id === row.chute_id),
      gpus: gpus.filter((gpu) => gpu.deployment_id === row.deployment_id),
    }),
  );
}
