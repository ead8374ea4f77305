import { gpuTypeOfName } from '../../../workflows/domain/gpus/gpu-table.ts';
import { resourcesPerGpu } from '../../../workflows/domain/miner/server-resources.ts';
import type { DeviceInfo } from '../../../workflows/domain/protocol/launch.ts';
import type { DeploymentSettings } from '../../../workflows/miner/deployments/messages.ts';
import type { DeploymentStore } from '../deployments/deployment-store.ts';
import type { ServerStore } from '../inventory/server-store.ts';
import type { MinerWorkflows } from '../miner-workflows.ts';
import type { AgentClient } from '../validator/agent-client.ts';
import { detailOf, expectStatus, ValidatorError, type ValidatorClient } from '../validator/validator-client.ts';

export interface ServerDeps {
  servers: ServerStore;
  deployments: DeploymentStore;
  agent: AgentClient;
  validator: ValidatorClient;
  workflows: MinerWorkflows;
  settings: DeploymentSettings;
}

type Id = { serverId: string };
export interface TrackInput extends Id {
  name: string;
  validator: string;
  agentUrl: string;
  gpuShortRef: string;
  hourlyCostMicroUsd: number;
}
export type TrackAnswer = { kind: 'tracked'; gpuCount: number; models: string[] } | { kind: 'refused'; why: string };
export type AdvertiseAnswer = { kind: 'advertised'; taskId: string } | { kind: 'refused'; why: string };
export interface VerificationAnswer {
  status: 'pending' | 'verified' | 'failed';
  detail: string;
}

export function createServerActivities({ servers, deployments, agent, validator, workflows, settings }: ServerDeps) {
  return {
    /** Asks the agent for its GPUs and records server and GPUs. */
    async trackServer(input: TrackInput): Promise<TrackAnswer> {
      const { devices, host, isSimulated } = await agent.inventory(input.agentUrl);
      const others = devices.filter((device) => gpuTypeOfName(device.name)?.ref !== input.gpuShortRef);
      if (others.length > 0)
        return {
          kind: 'refused',
          why: `not a ${input.gpuShortRef}: ${[...new Set(others.map((device) => device.name))].join(', ')}`,
        };
      const vramGbPerGpu = Math.floor(Math.min(...devices.map((device) => device.memory)) / 1024 ** 3);
      const share = host
        ? resourcesPerGpu({ ...host, gpuCount: devices.length, vramGbPerGpu })
        : { cpuPerGpu: 1, memoryPerGpuGb: 1 };
      const isTracked = await servers.track({
        ...input,
        ...share,
        labels: {
          'gpu-short-ref': input.gpuShortRef,
          ...(host ? { host: 'known' } : {}),
          ...(isSimulated ? { simulated: 'true' } : {}),
        },
        gpus: devices.map((device, deviceIndex) => ({
          gpuId: device.uuid,
          deviceIndex,
          device,
          modelShortRef: input.gpuShortRef,
        })),
      });
      if (!isTracked)
        return { kind: 'refused', why: 'its name or one of its GPUs belongs to another server of this miner' };
      return {
        kind: 'tracked',
        gpuCount: devices.length,
        models: [...new Set(devices.map((device) => `${device.name}${isSimulated ? ' (simulated)' : ''}`))],
      };
    },

    /** Tells the validator of the GPUs; told before, it finds the task that runs. */
    async advertise({ serverId }: Id): Promise<AdvertiseAnswer> {
      const server = await servers.find(serverId);
      if (!server) return { kind: 'refused', why: 'the server is gone' };
      if (server.taskId !== null) return { kind: 'advertised', taskId: server.taskId };
      const { hostname, port, protocol } = new URL(server.agentUrl);
      const gpus = await servers.gpusOf(serverId);
      const answer = await validator.post('/nodes/', {
        server_id: serverId,
        server_name: server.name,
        nodes: gpus.map(({ device, deviceIndex, modelShortRef }) => ({
          ...nodeArgs(device),
          device_index: deviceIndex,
          gpu_identifier: modelShortRef,
          verification_host: hostname,
          verification_port: Number(port) || (protocol === 'https:' ? 443 : 80),
        })),
      });
      if (answer.status === 202) {
        const { task_id: taskId, nodes } = answer.body as { task_id?: unknown; nodes?: { seed?: unknown }[] };
        if (typeof taskId !== 'string' || nodes?.length !== gpus.length)
          throw new Error('the answer to POST /nodes/ does not name the task or not every GPU');
        const seed = nodes[0]?.seed;
        await servers.recordTask(serverId, taskId, typeof seed === 'string' ? seed : null);
        return { kind: 'advertised', taskId };
      }
      if (answer.status === 409) {
        // Perhaps an earlier attempt's own doing, whose answer was lost.
        const taskId = await ownTask(gpus.map((gpu) => gpu.gpuId));
        if (taskId !== null) {
          await servers.recordTask(serverId, taskId, null);
          return { kind: 'advertised', taskId };
        }
      }
      if (answer.status >= 400 && answer.status < 500 && answer.status !== 408)
        return { kind: 'refused', why: `the validator refused the GPUs (${answer.status}): ${detailOf(answer)}` };
      throw new ValidatorError(answer.status, 'POST /nodes/', detailOf(answer));
    },

    async verificationStatus({ taskId }: { taskId: string }): Promise<VerificationAnswer> {
      const answer = await validator.ask('GET', '/nodes/verification_status', {
        purpose: 'graval',
        query: { task_id: taskId },
      });
      const body = expectStatus(answer, 'GET /nodes/verification_status', [200]) as {
        status?: string;
        error?: unknown;
        detail?: unknown;
      };
      if (body.status === 'verified' || body.status === 'pending') return { status: body.status, detail: '' };
      const detail = body.error ?? body.detail ?? body.status;
      return {
        status: 'failed',
        detail: (typeof detail === 'string' ? detail : JSON.stringify(detail ?? null)).slice(0, 500),
      };
    },

    markVerified: ({ serverId }: Id): Promise<void> => servers.markVerified(serverId),
    lockServer: ({ serverId, locked }: Id & { locked: boolean }): Promise<void> => servers.setLocked(serverId, locked),

    /** One look at the agent; null when the server is being removed. */
    async recordHealth({ serverId }: Id): Promise<'ready' | 'unknown' | null> {
      const server = await servers.find(serverId);
      if (!server) return null;
      const status = await servers.setHealth(serverId, await agent.answersPing(server.agentUrl));
      return status === 'ready' || status === 'unknown' ? status : null;
    },

    beginRemoval: ({ serverId }: Id): Promise<void> => servers.markRemoving(serverId),

    /** Asks every deployment of the server to end; says how many are still there. */
    async drainServer({ serverId }: Id): Promise<{ deploymentsLeft: number }> {
      const ids = await deployments.idsOfServer(serverId);
      for (const deploymentId of ids) {
        const row = await deployments.find(deploymentId);
        if (row) await workflows.stopDeployment({ deploymentId, chuteId: row.chuteId }, 'server_removed', settings);
      }
      return { deploymentsLeft: ids.length };
    },

    /** The validator forgets the GPUs; one it never knew, or that is another miner's, is none of ours. */
    async withdraw({ serverId }: Id): Promise<void> {
      for (const { gpuId } of await servers.gpusOf(serverId)) {
        const answer = await validator.ask('DELETE', `/nodes/${gpuId}`, { purpose: 'nodes' });
        expectStatus(answer, 'DELETE /nodes', [200, 403, 404]);
      }
    },

    forgetServer: ({ serverId }: Id): Promise<void> => servers.remove(serverId),
  };

  async function ownTask(gpuIds: string[]): Promise<string | null> {
    const nodes = (await validator.list('/miner/nodes/')) ?? [];
    const tasks = new Set(gpuIds.map((gpuId) => nodes.find((node) => node.uuid === gpuId)?.task_id));
    const [task] = tasks;
    return tasks.size === 1 && typeof task === 'string' ? task : null;
  }
}
export type ServerActivities = ReturnType<typeof createServerActivities>;

const NODE_ARGS = [
  'uuid',
  'name',
  'memory',
  'major',
  'minor',
  'processors',
  'sxm',
  'clock_rate',
  'max_threads_per_processor',
  'concurrent_kernels',
  'ecc',
] as const satisfies (keyof DeviceInfo)[];

/** The wire's field set, nulls left out (spec/miner.md §3.2 NodeArgs). */
function nodeArgs(device: DeviceInfo): Record<string, unknown> {
  const fields = NODE_ARGS.map((name) => [name, device[name]] as const);
  return Object.fromEntries(fields.filter(([, value]) => value !== null && value !== undefined));
}
