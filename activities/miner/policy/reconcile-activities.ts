import {
  planReconcile,
  type ReconcileAction,
  type ReconcileRules,
} from '../../../workflows/domain/miner/plan-reconcile.ts';
import type { DeploymentSettings } from '../../../workflows/miner/deployments/messages.ts';
import type { Logger } from '../../clients/log.ts';
import type { ComputeDriver } from '../compute/compute-driver.ts';
import { beating } from '../deployments/deployment-activities.ts';
import type { DeploymentStore } from '../deployments/deployment-store.ts';
import type { MinerWorkflows } from '../miner-workflows.ts';
import type { RemoteLists } from '../validator/remote-lists.ts';
import { expectStatus, type ValidatorClient } from '../validator/validator-client.ts';
import type { RemoteViewStore } from './remote-view-store.ts';

export interface ReconcileDeps {
  deployments: DeploymentStore;
  remote: RemoteViewStore;
  lists: RemoteLists;
  validator: ValidatorClient;
  driver: ComputeDriver;
  workflows: MinerWorkflows;
  log: Logger;
  graceS?: number;
}

/** Corrections of one round; the rest waits for the next. */
const MAX_ACTIONS = 100;

export function createReconcileActivities({
  deployments,
  remote,
  lists,
  validator,
  driver,
  workflows,
  log,
  graceS = 40,
}: ReconcileDeps) {
  /** What could not be looked at is `null`, whatever the reason: the plan knows the difference from "nothing". */
  async function orBlind<Value>(what: string, look: () => Promise<Value | null>): Promise<Value | null> {
    try {
      return await look();
    } catch (err) {
      log.warn({ event: 'reconcile.blind', what, err: (err as Error).message }, 'reconcile.blind');
      return null;
    }
  }

  return {
    async planCorrections(rules: ReconcileRules): Promise<ReconcileAction[]> {
      // Rows first: what appears in the lists afterwards can only be younger than the rows, and the age guard covers it.
      const rows = await deployments.rows();
      const [objects, instances, chutes, rollingChuteIds] = await Promise.all([
        orBlind('objects', () => driver.list()),
        orBlind('instances', async () => ((await lists.refreshInstances()) ? remote.instances() : null)),
        orBlind('chutes', async () =>
          (await lists.refreshChutes())
            ? Object.fromEntries((await remote.chutes()).map((chute) => [chute.chuteId, chute.version]))
            : null,
        ),
        orBlind('rolling_updates', () => lists.rollingChuteIds()),
        orBlind('images', () => lists.refreshImages()),
      ]);
      return planReconcile(
        { nowMs: Date.now(), deployments: rows, instances, chutes, rollingChuteIds, objects },
        rules,
      ).slice(0, MAX_ACTIONS);
    },

    async applyCorrection({
      action,
      settings,
    }: {
      action: ReconcileAction;
      settings: DeploymentSettings;
    }): Promise<void> {
      switch (action.kind) {
        case 'fact': {
          const { deploymentId, fact, instanceId } = action;
          if (!(await workflows.tellDeployment(deploymentId, { fact, instanceId })))
            await deployments.recordFact(deploymentId, fact, instanceId);
          return;
        }
        case 'note_missing':
          return deployments.noteMissing(action.deploymentId, action.what);
        case 'clear_missing':
          return deployments.noteMissing(action.deploymentId, null);
        case 'stop':
        case 'resume_stop': {
          const row = await deployments.find(action.deploymentId);
          if (!row) return;
          const code = action.kind === 'stop' ? action.code : 'orphaned';
          return workflows.stopDeployment({ deploymentId: action.deploymentId, chuteId: row.chuteId }, code, settings);
        }
        case 'remove_object':
          // A row that appeared meanwhile owns it after all.
          if (await deployments.find(action.deploymentId)) return;
          return beating(() => driver.stop(action.deploymentId, graceS));
        case 'delete_instance': {
          const answer = await validator.ask('DELETE', `/instances/${action.chuteId}/${action.instanceId}`, {
            purpose: 'instances',
          });
          expectStatus(answer, 'DELETE /instances', [200, 404]);
        }
      }
    },
  };
}
export type ReconcileActivities = ReturnType<typeof createReconcileActivities>;
