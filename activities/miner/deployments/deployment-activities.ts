import { cancellationSignal, heartbeat } from '@temporalio/activity';
import type { StopCode } from '../../../workflows/domain/miner/react-to.ts';
import type { ImageArtifact } from '../../../workflows/domain/protocol/image-artifact.ts';
import type { ComputeDriver, ComputeState, CreateInput } from '../compute/compute-driver.ts';
import type { RemoteViewStore } from '../policy/remote-view-store.ts';
import type { RemoteLists } from '../validator/remote-lists.ts';
import { nvidiaIdOf } from '../validator/agent-client.ts';
import { detailOf, expectStatus, ValidatorError, type ValidatorClient } from '../validator/validator-client.ts';
import type { DeploymentStore, LaunchMaterial } from './deployment-store.ts';

export interface DeploymentDeps {
  deployments: DeploymentStore;
  remote: RemoteViewStore;
  lists: RemoteLists;
  validator: ValidatorClient;
  driver: ComputeDriver;
  minerHotkey: string;
  validatorHotkey: string;
  /** in-flight requests get `drainS` after SIGTERM; the process is killed `graceS` after it */
  drainS?: number;
  graceS?: number;
}

type Id = { deploymentId: string };
export type ReserveAnswer = { kind: 'reserved'; serverId: string } | { kind: 'no_gpus' | 'chute_unknown'; why: string };
export type LaunchAnswer =
  | { kind: 'permitted'; configId: string }
  | { kind: 'refused'; status: number; detail: string };
export interface Observation {
  compute: ComputeState['state'];
  exitCode: number | null;
  /** null = the validator does not list it, or could not be asked */
  instance: { instanceId: string; isVerified: boolean; isActive: boolean } | null;
}

const MAX_PIDS = 4096;

export function createDeploymentActivities(deps: DeploymentDeps) {
  const {
    deployments,
    remote,
    lists,
    validator,
    driver,
    minerHotkey,
    validatorHotkey,
    drainS = 30,
    graceS = 40,
  } = deps;

  return {
    /** GPUs, ports and row, before the validator is asked: a permission is never spent on GPUs somebody else got. */
    async reserve(
      input: Id & { chuteId: string; version: string | null; onlyServerId: string | null },
    ): Promise<ReserveAnswer> {
      const chute = await remote.chute(input.chuteId);
      if (!chute || (input.version !== null && chute.version !== input.version)) {
        return {
          kind: 'chute_unknown',
          why: chute ? `version here is ${chute.version}` : 'the validator does not list it',
        };
      }
      const reservation = await deployments.reserve({ ...input, chute, driver: driver.name });
      return reservation.kind === 'reserved' ? { kind: 'reserved', serverId: reservation.serverId } : reservation;
    },

    /** Asks for the permission and seals its token into the row. The answer holds no secret. */
    async requestLaunch({ deploymentId }: Id): Promise<LaunchAnswer> {
      const row = await deployments.permission(deploymentId);
      if (!row) return { kind: 'refused', status: 410, detail: 'the deployment is gone' };
      if (row.configId !== null) return { kind: 'permitted', configId: row.configId };
      const answer = await validator.ask('GET', '/instances/launch_config', {
        purpose: 'launch',
        query: { chute_id: row.chuteId, ...(row.jobId === null ? {} : { job_id: row.jobId }) },
      });
      if (answer.status === 200) {
        const { token, config_id: configId } = answer.body as { token?: unknown; config_id?: unknown };
        if (typeof token !== 'string' || typeof configId !== 'string')
          throw new Error('launch config has no token or config_id');
        await deployments.recordPermission(deploymentId, configId, token);
        return { kind: 'permitted', configId };
      }
      if (answer.status >= 400 && answer.status < 500 && answer.status !== 408)
        return { kind: 'refused', status: answer.status, detail: detailOf(answer) };
      throw new ValidatorError(answer.status, 'GET /instances/launch_config', detailOf(answer));
    },

    /** Starts the instance, or finds it started. Cancelled, it returns only when nothing is being created any more. */
    async createInstance({ deploymentId }: Id): Promise<void> {
      await beating(async () => {
        const material = await deployments.launchMaterial(deploymentId);
        const row = await deployments.permission(deploymentId);
        if (!material || !row) throw new Error(`deployment ${deploymentId} has no permission`);
        const { imageId, artifact } = await artifactOf(row.chuteId, row.version);
        const handle = await driver.create({
          ...createInput(deploymentId, material, artifact),
          imageId,
          signal: cancellationSignal(),
        });
        await deployments.recordStarted(deploymentId, handle, material.host);
      });
    },

    async observe({ deploymentId }: Id): Promise<Observation> {
      const [state, row] = await Promise.all([driver.inspect(deploymentId), deployments.find(deploymentId)]);
      const exitCode = state.state === 'exited' ? state.code : null;
      const isSeen = await lists.refreshInstances().catch(() => false);
      const instances = isSeen && row ? await remote.instances() : [];
      const instance = instances.find(
        (each) => each.instanceId === row?.instanceId || (each.configId !== null && each.configId === row?.configId),
      );
      return { compute: state.state, exitCode, instance: instance ?? null };
    },

    recordFact: ({
      deploymentId,
      fact,
      instanceId,
    }: Id & { fact: 'bound' | 'verified' | 'activated'; instanceId: string }): Promise<void> =>
      deployments.recordFact(deploymentId, fact, instanceId),

    markTerminating: ({ deploymentId, code }: Id & { code: StopCode }): Promise<void> =>
      deployments.markTerminating(deploymentId, code),

    /** Tells the validator that the instance ends; that it knows none is fine too. */
    async deleteRemoteInstance({ deploymentId }: Id): Promise<void> {
      const row = await deployments.find(deploymentId);
      if (!row?.configId) return;
      let { instanceId } = row;
      if (instanceId === null) {
        // Claimed, and its event not heard: the list names it by its config.
        await lists.refreshInstances();
        instanceId = (await remote.instances()).find((each) => each.configId === row.configId)?.instanceId ?? null;
      }
      if (instanceId === null) return;
      const answer = await validator.ask('DELETE', `/instances/${row.chuteId}/${instanceId}`, { purpose: 'instances' });
      expectStatus(answer, 'DELETE /instances', [200, 404]);
    },

    /** Returns only when the driver has nothing left of it. */
    async stopInstance({ deploymentId }: Id): Promise<void> {
      await beating(() => driver.stop(deploymentId, graceS));
    },

    forgetDeployment: ({ deploymentId }: Id): Promise<void> => deployments.forget(deploymentId),
  };

  /** Asked at the moment it is needed: an image may have been built anew since its chute was heard of. */
  async function artifactOf(chuteId: string, version: string): Promise<{ imageId: string; artifact: ImageArtifact }> {
    await lists.importChute(chuteId, version, { keepsBan: true });
    const chute = await remote.chute(chuteId);
    if (!chute?.imageId) throw new Error(`chute ${chuteId} names no image`);
    if (chute.artifact) return { imageId: chute.imageId, artifact: chute.artifact };
    await lists.refreshImages();
    const artifact = await remote.artifact(chute.imageId);
    if (!artifact) throw new Error(`the validator says nothing of what image ${chute.imageId} was built into`);
    return { imageId: chute.imageId, artifact };
  }

  function createInput(
    deploymentId: string,
    { token, host, ports, devices, serverLimits }: LaunchMaterial,
    artifact: ImageArtifact,
  ): Omit<CreateInput, 'imageId'> {
    const nvidiaIds = devices.map((device) => nvidiaIdOf(device.uuid)).join(',');
    const share = (perGpu: number): number | null => (serverLimits.areKnown ? perGpu * devices.length : null);
    return {
      deploymentId,
      artifact,
      ports,
      limits: { cpus: share(serverLimits.cpuPerGpu), memoryGb: share(serverLimits.memoryPerGpuGb), pids: MAX_PIDS },
      env: {
        CHUTES_LAUNCH_JWT: token,
        CHUTES_EXTERNAL_HOST: host,
        CHUTES_PORT_PRIMARY: String(ports.primary),
        CHUTES_PORT_LOGGING: String(ports.logging),
        CHUTES_EXECUTION_CONTEXT: 'REMOTE',
        NVIDIA_VISIBLE_DEVICES: nvidiaIds,
        CHUTES_NVIDIA_DEVICES: nvidiaIds,
        CANOPY_MINER_SS58: minerHotkey,
        CANOPY_VALIDATOR_SS58: validatorHotkey,
        CANOPY_DEVICES: JSON.stringify(devices),
        CANOPY_COMMAND: JSON.stringify(artifact.command),
        CANOPY_DRAIN_SECONDS: String(drainS),
      },
    };
  }
}
export type DeploymentActivities = ReturnType<typeof createDeploymentActivities>;

/** Heartbeats while `work` runs: a dead worker is noticed, and a cancellation arrives. */
export async function beating<Result>(work: () => Promise<Result>): Promise<Result> {
  const beat = setInterval(() => heartbeat(), 5000);
  try {
    return await work();
  } finally {
    clearInterval(beat);
  }
}
