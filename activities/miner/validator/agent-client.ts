import { z } from 'zod';
import type { Hotkey } from '../../clients/hotkey.ts';
import type { Purpose } from '../../../workflows/domain/auth/signing.ts';
import type { DeviceInfo } from '../../../workflows/domain/protocol/launch.ts';

const number = z.number().finite();
const device = z.looseObject({
  uuid: z.string().regex(/^(GPU-)?[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i),
  name: z.string().min(1).max(200),
  memory: number.int().positive(),
  clock_rate: number.nonnegative(),
  major: number.int().nullish(),
  minor: number.int().nullish(),
  processors: number.int().nullish(),
  sxm: z.boolean().nullish(),
  max_threads_per_processor: number.int().nullish(),
  concurrent_kernels: z.boolean().nullish(),
  ecc: z.boolean().nullish(),
});
const devicesAnswer = z.looseObject({ devices: z.array(device).min(1).max(10) });
const statusAnswer = z.looseObject({
  cpus: number.positive(),
  memoryGb: number.positive(),
  simulated: z.boolean().optional(),
});

/** `host` is null when the agent does not say how large it is. */
export interface AgentInventory {
  devices: DeviceInfo[];
  host: { cpus: number; memoryGb: number } | null;
  isSimulated: boolean;
}

/** The agent of one GPU server, over its HTTP service (workflows/domain/protocol/agent.ts). */
export class AgentClient {
  readonly #hotkey: Hotkey;
  constructor({ hotkey }: { hotkey: Hotkey }) {
    this.#hotkey = hotkey;
  }

  async answersPing(agentUrl: string): Promise<boolean> {
    const response = await fetch(`${agentUrl}/ping`, { signal: AbortSignal.timeout(5000) }).catch(() => null);
    await response?.body?.cancel();
    return response?.status === 200;
  }

  /** What GPUs the host has; uuids come out as the wire has them: 32 lower-case hex. */
  async inventory(agentUrl: string): Promise<AgentInventory> {
    const devices = await this.#get(agentUrl, '/devices', 'graval');
    if (devices.status !== 200)
      throw new Error(`agent answered ${devices.status} to GET /devices: ${devices.text.slice(0, 200)}`);
    const status = await this.#get(agentUrl, '/status', 'management');
    const host = status.status === 200 ? statusAnswer.parse(JSON.parse(status.text)) : null; // the reference's has none
    return {
      devices: devicesAnswer
        .parse(JSON.parse(devices.text))
        .devices.map((each) => ({ ...each, uuid: gpuIdOf(each.uuid) }) as DeviceInfo),
      host: host === null ? null : { cpus: Math.floor(host.cpus), memoryGb: Math.floor(host.memoryGb) },
      isSimulated: host?.simulated === true,
    };
  }

  async #get(agentUrl: string, path: string, purpose: Purpose): Promise<{ status: number; text: string }> {
    const miner = this.#hotkey.address;
    const response = await fetch(`${agentUrl}${path}`, {
      headers: this.#hotkey.minerHeaders({ miner, validator: miner }, { purpose }),
      signal: AbortSignal.timeout(20_000),
    });
    return { status: response.status, text: await response.text() };
  }
}

export const gpuIdOf = (uuid: string): string => uuid.replace(/^GPU-/i, '').replaceAll('-', '').toLowerCase();
/** `GPU-<dashed uuid>`, as NVIDIA's tools write it. */
export const nvidiaIdOf = (gpuId: string): string =>
  `GPU-${gpuId.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')}`;
