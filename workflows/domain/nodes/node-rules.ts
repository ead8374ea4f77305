import type { RefusalCode } from '../errors.ts';
import { gpuType, gpuTypeOfName, type GpuType } from '../gpus/gpu-table.ts';

/** One GPU as a miner announces it (spec/validator-api.md §2.5). Memory in bytes, clock in kHz, null is "not told". */
export interface AnnouncedNode {
  uuid: string;
  name: string;
  memory: number;
  major: number | null;
  minor: number | null;
  processors: number | null;
  sxm: boolean | null;
  clockRate: number;
  maxThreadsPerProcessor: number | null;
  concurrentKernels: boolean | null;
  ecc: boolean | null;
  deviceIndex: number;
  gpuIdentifier: string;
  verificationHost: string;
  verificationPort: number;
}

export interface NodeRefusal {
  code: RefusalCode;
  detail: string;
}

export const MAX_NODES_PER_REGISTRATION = 10;
const DAY_MS = 86_400_000;

/** The batch itself, before anything is looked up. */
export function whyBatchRefused(nodes: readonly Pick<AnnouncedNode, 'uuid'>[]): NodeRefusal | null {
  if (nodes.length === 0) return { code: 'request.invalid', detail: 'no nodes given' };
  if (nodes.length > MAX_NODES_PER_REGISTRATION)
    return { code: 'request.invalid', detail: `at most ${MAX_NODES_PER_REGISTRATION} nodes at once` };
  if (new Set(nodes.map(({ uuid }) => uuid)).size !== nodes.length)
    return { code: 'request.invalid', detail: 'a uuid is given twice' };
  return null;
}

export interface PastRegistration {
  uuid: string;
  minerHotkey: string;
  registeredAtMs: number;
}

/**
 * Hotkey hopping: in the last 24 hours, without this miner's own newest entry, the GPU has more than two registrations
 * by two or more hotkeys (spec/validator-internals.md §2.14.1).
 */
export function isHopping(
  uuid: string,
  minerHotkey: string,
  history: readonly PastRegistration[],
  nowMs: number,
): boolean {
  const recent = history.filter((entry) => entry.uuid === uuid && nowMs - entry.registeredAtMs < DAY_MS);
  const own = recent
    .filter((entry) => entry.minerHotkey === minerHotkey)
    .sort((a, b) => b.registeredAtMs - a.registeredAtMs);
  const counted = recent.filter((entry) => entry !== own[0]);
  return counted.length > 2 && new Set(counted.map((entry) => entry.minerHotkey)).size >= 2;
}

/** What a GPU of the announced type cannot be; null when everything fits. Fields that were not told are not checked. */
export function whyDeviceRefused(node: AnnouncedNode): NodeRefusal | null {
  const no = (detail: string): NodeRefusal => ({ code: 'request.invalid', detail: `GPU ${node.uuid}: ${detail}` });
  const type = gpuType(node.gpuIdentifier);
  if (!type) return no(`${JSON.stringify(node.gpuIdentifier)} is not a supported GPU`);
  if (gpuTypeOfName(node.name) !== type) return no(`${JSON.stringify(node.name)} is not the name of a ${type.ref}`);
  const memoryGb = Math.floor(node.memory / 1e9);
  if (memoryGb < type.memoryGb - 1 || memoryGb > type.memoryGb * 1.024 ** 3 + 1)
    return no(`${memoryGb} GB is not the memory of a ${type.ref}`);
  if (node.processors !== null && node.processors !== type.processors)
    return no(`${node.processors} processors are not those of a ${type.ref}`);
  const mhz = node.clockRate / 1000;
  if (mhz < type.clockMhz.base || mhz > type.clockMhz.boost * 1.1)
    return no(`${mhz} MHz is not a clock of a ${type.ref}`);
  return null;
}

/** What the type's table says overrides what was announced (spec/validator-api.md §2.5). */
export function asType(node: AnnouncedNode, type: GpuType): AnnouncedNode {
  const { computeCapability: cc } = type;
  if (!cc) return { ...node, gpuIdentifier: type.ref };
  return {
    ...node,
    gpuIdentifier: type.ref,
    major: cc.major,
    minor: cc.minor,
    sxm: cc.sxm,
    concurrentKernels: cc.concurrentKernels,
    ecc: cc.ecc,
  };
}

/** A registration proves within this, its own retries included, or is gone: then the next sweep proves its nodes. */
export const REGISTRATION_MS = 3 * 3_600_000;
