import { WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError, type Client } from '@temporalio/client';
import { deploymentWorkflowId, GEPETTO_WORKFLOW_ID, RECONCILE_WORKFLOW_ID } from '../../workflows/ids.ts';
import { SEARCH_ATTRIBUTES } from '../../workflows/search-attributes.ts';
import { TASK_QUEUES } from '../../workflows/task-queues.ts';
import type { MinerEvent, StopCode } from '../../workflows/domain/miner/react-to.ts';
import type {
  DeploymentInput,
  DeploymentRequest,
  DeploymentSettings,
  InstanceFact,
} from '../../workflows/miner/deployments/messages.ts';
import type { GepettoInput, ReconcileInput } from '../../workflows/miner/policy/messages.ts';

/** Names of workflows and signals, said once: activities and API know workflows by name only. */
const START = { taskQueue: TASK_QUEUES.miner } as const;

/** What activities, the API and the socket client ask of the miner's workflows. Each call may be made twice. */
export class MinerWorkflows {
  readonly #client: Client;
  constructor(client: Client) {
    this.#client = client;
  }

  async startDeployment(request: DeploymentRequest, settings: DeploymentSettings): Promise<void> {
    const input: DeploymentInput = { ...request, settings };
    try {
      await this.#client.workflow.start('deploymentLifecycle', {
        ...START,
        workflowId: deploymentWorkflowId(request.deploymentId),
        args: [input],
        workflowIdReusePolicy: 'REJECT_DUPLICATE',
        typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.chute, value: request.chuteId }],
      });
    } catch (err) {
      if (!(err instanceof WorkflowExecutionAlreadyStartedError)) throw err;
    }
  }

  /** Ends a deployment; a workflow that is not there any more is started for what is left of its work. */
  async stopDeployment(
    row: { deploymentId: string; chuteId: string },
    code: StopCode,
    settings: DeploymentSettings,
    successor?: DeploymentRequest,
  ): Promise<void> {
    const input: DeploymentInput = {
      deploymentId: row.deploymentId,
      chuteId: row.chuteId,
      version: null,
      onlyServerId: null,
      settings,
      resumeStop: code,
    };
    await this.#client.workflow.signalWithStart('deploymentLifecycle', {
      ...START,
      workflowId: deploymentWorkflowId(row.deploymentId),
      args: [input],
      signal: 'stopDeployment',
      signalArgs: [{ code, ...(successor ? { successor } : {}) }],
      typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.chute, value: row.chuteId }],
    });
  }

  /** False when no workflow of that deployment runs. */
  async tellDeployment(deploymentId: string, fact: InstanceFact): Promise<boolean> {
    try {
      await this.#client.workflow.getHandle(deploymentWorkflowId(deploymentId)).signal('instanceFact', fact);
      return true;
    } catch (err) {
      if (err instanceof WorkflowNotFoundError) return false;
      throw err;
    }
  }

  /** Starts gepetto and reconcile where they do not run; both are told that what happened meanwhile is unknown. */
  async ensurePolicy(gepetto: GepettoInput, reconcile: ReconcileInput): Promise<void> {
    await this.#client.workflow.signalWithStart('gepetto', {
      ...START,
      workflowId: GEPETTO_WORKFLOW_ID,
      args: [gepetto],
      signal: 'resync',
      signalArgs: [],
    });
    await this.#client.workflow.signalWithStart('reconcile', {
      ...START,
      workflowId: RECONCILE_WORKFLOW_ID,
      args: [reconcile],
      signal: 'reconcileNow',
      signalArgs: [],
    });
  }

  async hear(event: MinerEvent, gepetto: GepettoInput): Promise<void> {
    await this.#client.workflow.signalWithStart('gepetto', {
      ...START,
      workflowId: GEPETTO_WORKFLOW_ID,
      args: [gepetto],
      signal: 'minerEvent',
      signalArgs: [event],
    });
  }
}
