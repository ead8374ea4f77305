import { rankScaleUp, type ScaleCandidate, type ScalePlan } from '../../../workflows/domain/miner/rank-scale-up.ts';
import { reactTo, type MinerEvent, type Reaction } from '../../../workflows/domain/miner/react-to.ts';
import type { DeploymentSettings } from '../../../workflows/miner/deployments/messages.ts';
import type { Logger } from '../../clients/log.ts';
import type { DeploymentStore } from '../deployments/deployment-store.ts';
import type { ServerStore } from '../inventory/server-store.ts';
import type { MinerWorkflows } from '../miner-workflows.ts';
import type { RemoteLists } from '../validator/remote-lists.ts';
import type { RemoteViewStore } from './remote-view-store.ts';

export interface PolicyDeps {
  deployments: DeploymentStore;
  servers: ServerStore;
  remote: RemoteViewStore;
  lists: RemoteLists;
  workflows: MinerWorkflows;
  minerHotkey: string;
  log: Logger;
}

/** `newDeploymentId` is used by reactions that start something. */
export interface PlannedReaction {
  reaction: Reaction;
  newDeploymentId: string;
}
export interface ScaleUpInput {
  retryAtMs: Record<string, number>;
  pendingChuteIds: string[];
  mustRefresh: boolean;
  limit: number;
}

export function createPolicyActivities({
  deployments,
  servers,
  remote,
  lists,
  workflows,
  minerHotkey,
  log,
}: PolicyDeps) {
  return {
    /** What the policy does about an event, given the rows of this moment. */
    async considerEvent({ event }: { event: MinerEvent }): Promise<Reaction[]> {
      const chuteId = 'chute_id' in event.data ? event.data.chute_id : null;
      const chute = chuteId === null ? null : await remote.chute(chuteId);
      const reactions = reactTo(event, {
        hotkey: minerHotkey,
        chuteVersion: chute?.version ?? null,
        deployments: await deployments.views(),
      });
      for (const reaction of reactions)
        log.info({ event: 'gepetto.reaction', on: event.reason, ...reaction }, 'gepetto.reaction');
      return reactions;
    },

    /** In order; each step may be done twice. */
    async carryOut({ planned, settings }: { planned: PlannedReaction[]; settings: DeploymentSettings }): Promise<void> {
      for (const { reaction, newDeploymentId } of planned) await carryOutOne(reaction, newDeploymentId, settings);
    },

    /** The tick: which chutes get a deployment more, and where that would fit. */
    async planScaleUp({ retryAtMs, pendingChuteIds, mustRefresh, limit }: ScaleUpInput): Promise<ScalePlan> {
      const utilization = await lists.utilization();
      const known = new Set((await remote.chutes()).map((chute) => chute.chuteId));
      const hasUnknown = utilization.some(({ chuteId, scalable }) => scalable && !known.has(chuteId));
      if (mustRefresh || hasUnknown) await lists.refreshChutes();
      const rows = await deployments.rows();
      const candidates = (await remote.chutes()).map((chute): ScaleCandidate => {
        const pending = rows.filter(
          (row) => row.chuteId === chute.chuteId && row.jobId === null && !row.isActive && row.status !== 'terminating',
        );
        const launching = pendingChuteIds.filter((chuteId) => chuteId === chute.chuteId);
        return {
          chuteId: chute.chuteId,
          version: chute.version,
          needs: { ...chute.needs, onlyServerId: null },
          computeMultiplier: chute.computeMultiplier,
          hasCords: chute.hasCords,
          utilization: utilization.find((each) => each.chuteId === chute.chuteId) ?? null,
          pendingCount: pending.length + launching.length,
          retryAtMs: retryAtMs[chute.chuteId] ?? 0,
        };
      });
      const plan = rankScaleUp(candidates, await servers.snapshots(), { nowMs: Date.now(), limit });
      log.debug({ event: 'gepetto.tick', starts: plan.starts.length, rejections: plan.rejections }, 'gepetto.tick');
      return { starts: plan.starts, rejections: {} }; // the rejections are for the log: with a thousand chutes they are long
    },
  };

  async function carryOutOne(reaction: Reaction, newDeploymentId: string, settings: DeploymentSettings): Promise<void> {
    switch (reaction.kind) {
      case 'ignore':
        return;
      case 'mark_gpu_verified':
        return servers.markGpuVerified(reaction.gpuId);
      case 'import_chute':
        await lists.importChute(reaction.chuteId, reaction.version);
        return;
      case 'import_images':
        await lists.refreshImages();
        return;
      case 'forget_chute':
        return remote.forgetChute(reaction.chuteId, reaction.version);
      case 'start': {
        const { chuteId, version, onlyServerId } = reaction;
        return workflows.startDeployment({ deploymentId: newDeploymentId, chuteId, version, onlyServerId }, settings);
      }
      case 'stop':
      case 'replace': {
        const row = await deployments.find(reaction.deploymentId);
        if (!row) return;
        const successor =
          reaction.kind === 'replace'
            ? {
                deploymentId: newDeploymentId,
                chuteId: reaction.chuteId,
                version: reaction.version,
                onlyServerId: reaction.onlyServerId,
              }
            : undefined;
        return workflows.stopDeployment(
          { deploymentId: reaction.deploymentId, chuteId: row.chuteId },
          reaction.code,
          settings,
          successor,
        );
      }
      case 'instance_fact': {
        const { deploymentId, fact, instanceId } = reaction;
        if (!(await workflows.tellDeployment(deploymentId, { fact, instanceId })))
          await deployments.recordFact(deploymentId, fact, instanceId);
      }
    }
  }
}
export type PolicyActivities = ReturnType<typeof createPolicyActivities>;
