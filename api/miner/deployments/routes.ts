import { Router } from 'express';
import type { Knex } from 'knex';
import { Refusal } from '../../../workflows/domain/errors.ts';
import { isUuid } from '../../../workflows/domain/ids.ts';
import type { MinerDeps } from '../deps.ts';
import { findServerId, listDeployments } from '../inventory.ts';

/** Ending deployments by hand (spec/miner.md §2.2). Jobs are spared, as the reference's help text promises. */
export function deploymentRoutes({ db, auth, workflows, settings }: MinerDeps): Router {
  const management = auth('management');
  const router = Router();

  async function purge(where: (query: Knex.QueryBuilder) => void): Promise<unknown> {
    const rows = await listDeployments(db, (query) => {
      where(query);
      query.whereNull('job_id').whereNot('status', 'terminating');
    });
    const servers = await db('servers')
      .whereIn(
        'server_id',
        rows.map((row) => String(row.server_id)),
      )
      .select('server_id', 'name');
    for (const row of rows) {
      await workflows.stopDeployment(
        { deploymentId: String(row.deployment_id), chuteId: String(row.chute_id) },
        'operator_requested',
        settings,
      );
    }
    const deployments_purged = rows.map((row) => ({
      chute_id: row.chute_id,
      chute_name: (row.chute as { name?: string } | null)?.name ?? null,
      server_id: row.server_id,
      server_name: servers.find((server) => server.server_id === row.server_id)?.name ?? null,
      gpu_count: (row.gpus as unknown[]).length,
    }));
    return { status: 'initiated', deployments_purged };
  }

  router.delete('/deployments/purge', management, async (_req, res) => void res.json(await purge(() => {})));

  router.delete('/servers/:id/deployments', management, async (req, res) => {
    const serverId = await findServerId(db, String(req.params.id));
    if (serverId === null) return void res.json({ status: 'initiated', deployments_purged: [] });
    res.json(await purge((query) => void query.where({ server_id: serverId })));
  });

  router.delete('/deployments/:id', management, async (req, res) => {
    const id = String(req.params.id);
    const [deployment] = isUuid(id)
      ? await listDeployments(db, (query) => void query.where({ deployment_id: id }))
      : [];
    if (!deployment) throw new Refusal('resource.not_found', `deployment ${id} not found`);
    await workflows.stopDeployment(
      { deploymentId: id, chuteId: String(deployment.chute_id) },
      'operator_requested',
      settings,
    );
    res.json({ status: 'initiated', deployment_purged: deployment });
  });

  return router;
}
