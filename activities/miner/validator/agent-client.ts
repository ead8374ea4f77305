import { z } from 'zod';
import type { Hotkey } from '../../clients/hotkey.ts';
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
const answer = z.looseObject({
  devices: z.array(device).min(1).max(10),
  host: z.looseObject({ cpus: number.positive(), memory_gb: number.positive() }).optional(),
});

export interface AgentInventory {
  devices: DeviceInfo[];
  host: { cpus: number; memoryGb: number } | null;
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
    const miner = this.#hotkey.address;
    const response = await fetch(`${agentUrl}/devices`, {
      headers: this.#hotkey.minerHeaders({ miner, validator: miner }, { purpose: 'graval' }),
      signal: AbortSignal.timeout(20_000),
    });
    const text = await response.text();
    if (response.status !== 200)
      throw new Error(`agent answered ${response.status} to GET /devices: ${text.slice(0, 200)}`);
    const { devices, host } = answer.parse(JSON.parse(text));
    return {
      devices: devices.map((each) => ({ ...each, uuid: gpuIdOf(each.uuid) }) as DeviceInfo),
      host: host === undefined ? null : { cpus: Math.floor(host.cpus), memoryGb: Math.floor(host.memory_gb) },
    };
  }
}

export const gpuIdOf = (uuid: string): string => uuid.replace(/^GPU-/i, '').replaceAll('-', '').toLowerCase();
/** `GPU-<dashed uuid>`, as NVIDIA's tools write it. */
export const nvidiaIdOf = (gpuId: string): string =>
  `GPU-${gpuId.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')}`;
