import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { gpuType, gpuTypeOfName, type GpuType } from '../../workflows/domain/gpus/gpu-table.ts';
import type { GravalDevice } from '../../activities/clients/graval.ts';
import type { DeviceInfo } from '../../workflows/domain/protocol/launch.ts';
import { deviceInfo } from './wire.ts';

export interface Inventory {
  devices: DeviceInfo[];
  simulated: boolean;
}

/**
 * The GPUs of this server: the simulated ones when configured, else those nvidia-smi reports, and where that program is not
 * installed those graval found. Throws when there is none.
 */
export async function findDevices({
  simulatedGpus,
  workDir,
  gravalDevices = [],
}: {
  simulatedGpus: string | undefined;
  workDir: string;
  gravalDevices?: readonly GravalDevice[];
}): Promise<Inventory> {
  if (simulatedGpus) return { devices: await simulatedDevices(simulatedGpus, workDir), simulated: true };
  const csv = await askNvidiaSmi(gravalDevices.length > 0);
  return { devices: csv === null ? gravalDevices.map(wireDevice) : driverDevices(csv), simulated: false };
}

/** What graval does not know is null: "not checked". */
function wireDevice(device: GravalDevice): DeviceInfo {
  const { uuid, name, memoryBytes, clockKhz, major, minor, processors, maxThreadsPerProcessor } = device;
  return {
    uuid,
    name,
    memory: memoryBytes,
    clock_rate: clockKhz,
    major,
    minor,
    processors,
    max_threads_per_processor: maxThreadsPerProcessor,
    sxm: isSxm(name),
    ecc: null,
    concurrent_kernels: null,
  };
}
const isSxm = (name: string): boolean => /SXM|HBM3/.test(name);

/** What the driver of each type calls the device: the pattern of the GPU table must find its own type in it. */
export const DEVICE_NAMES: Readonly<Record<string, string>> = {
  '3090': 'NVIDIA GeForce RTX 3090',
  '4090': 'NVIDIA GeForce RTX 4090',
  '5090': 'NVIDIA GeForce RTX 5090',
  a4000: 'NVIDIA RTX A4000',
  a4000_ada: 'NVIDIA RTX 4000 Ada Generation',
  a5000: 'NVIDIA RTX A5000',
  a6000: 'NVIDIA RTX A6000',
  a6000_ada: 'NVIDIA RTX 6000 Ada Generation',
  pro_6000: 'NVIDIA RTX PRO 6000 Blackwell Server Edition',
  l4: 'NVIDIA L4',
  a10: 'NVIDIA A10',
  a40: 'NVIDIA A40',
  l40: 'NVIDIA L40',
  l40s: 'NVIDIA L40S',
  a100_40gb: 'NVIDIA A100-PCIE-40GB',
  a100_40gb_sxm: 'NVIDIA A100-SXM4-40GB',
  a100: 'NVIDIA A100 80GB PCIe',
  a100_sxm: 'NVIDIA A100-SXM4-80GB',
  h100: 'NVIDIA H100 PCIe',
  h100_nvl: 'NVIDIA H100 NVL',
  h100_sxm: 'NVIDIA H100 80GB HBM3',
  h800: 'NVIDIA H800 PCIe',
  h20: 'NVIDIA H20',
  h200: 'NVIDIA H200',
  mi300x: 'AMD Instinct MI300X gfx942:sramecc',
  b200: 'NVIDIA B200',
};

/** A device of the type as its driver would report it. */
export function plausibleDevice(type: GpuType, uuid: string): DeviceInfo {
  const { computeCapability: cc } = type;
  return {
    uuid,
    name: DEVICE_NAMES[type.ref] ?? type.ref,
    memory: type.memoryGb * 2 ** 30,
    major: cc?.major ?? null,
    minor: cc?.minor ?? null,
    processors: type.processors,
    sxm: cc?.sxm ?? null,
    clock_rate: type.clockMhz.boost * 1000,
    max_threads_per_processor: type.maxThreadsPerProcessor,
    concurrent_kernels: cc?.concurrentKernels ?? null,
    ecc: cc?.ecc ?? null,
  };
}

/** uuids are drawn once per work folder: a restarted agent is the same server. */
async function simulatedDevices(spec: string, workDir: string): Promise<DeviceInfo[]> {
  if (spec.trim().startsWith('[')) return z.array(deviceInfo).min(1).max(16).parse(JSON.parse(spec)) as DeviceInfo[];
  const types = spec.split(',').flatMap((group): GpuType[] => {
    const [, count = '', ref = ''] = /^([1-9]|1[0-6])x([a-z0-9_]+)$/i.exec(group.trim()) ?? [];
    const type = gpuType(ref);
    if (!type)
      throw new Error(
        `CANOPY_SIMULATED_GPUS: ${JSON.stringify(group)} is not <count>x<gpu type>, for instance 2xh100_sxm`,
      );
    return Array.from({ length: Number(count) }, () => type);
  });
  if (types.length > 16) throw new Error('CANOPY_SIMULATED_GPUS: a server has at most 16 GPUs');
  const file = join(workDir, 'simulated-gpus.json');
  const known = await readUuids(file);
  const uuids = types.map((_, index) => known[index] ?? randomBytes(16).toString('hex'));
  await mkdir(workDir, { recursive: true });
  await writeFile(`${file}.new`, JSON.stringify(uuids.length >= known.length ? uuids : known));
  await rename(`${file}.new`, file);
  return types.map((type, index) => plausibleDevice(type, uuids[index] ?? ''));
}

async function readUuids(file: string): Promise<string[]> {
  try {
    return z.array(z.string().regex(/^[0-9a-f]{32}$/)).parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (err) {
    if (typeof err === 'object' && err !== null && 'code' in err && err.code === 'ENOENT') return [];
    throw new Error(`${file} is not a list of GPU uuids; remove it to draw new ones`, { cause: err });
  }
}

const QUERY = 'uuid,name,memory.total,clocks.max.sm,compute_cap,ecc.mode.current';

/** null: it is not installed, and the GPUs are known without it */
async function askNvidiaSmi(isOptional: boolean): Promise<string | null> {
  try {
    const args = [`--query-gpu=${QUERY}`, '--format=csv,noheader,nounits'];
    return (await promisify(execFile)('nvidia-smi', args, { timeout: 30_000, env: process.env })).stdout;
  } catch (err) {
    if (isOptional && (err as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new Error(
      'no GPU found: nvidia-smi does not answer. On a machine without GPUs set CANOPY_SIMULATED_GPUS, for instance 2xh100_sxm',
      { cause: err },
    );
  }
}

function driverDevices(csv: string): DeviceInfo[] {
  const devices = parseNvidiaSmi(csv);
  if (devices.length === 0)
    throw new Error('no GPU found: nvidia-smi lists none. On a machine without GPUs set CANOPY_SIMULATED_GPUS');
  return devices;
}

/** One line a GPU in the order of `QUERY`, MiB and MHz. The driver does not tell multiprocessors; `null` is "not checked". */
export function parseNvidiaSmi(csv: string): DeviceInfo[] {
  return csv
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [uuid = '', name = '', memoryMib = '', clockMhz = '', capability = '', ecc = ''] = line
        .split(',')
        .map((field) => field.trim());
      const device = {
        uuid: uuid.replace(/^GPU-/, '').replaceAll('-', '').toLowerCase(),
        name,
        memory: Number(memoryMib) * 2 ** 20,
        clock_rate: Number(clockMhz) * 1000,
        major: Number(capability.split('.')[0]),
        minor: Number(capability.split('.')[1]),
        processors: null,
        max_threads_per_processor: gpuTypeOfName(name)?.maxThreadsPerProcessor ?? null,
        sxm: isSxm(name),
        ecc: ecc === 'Enabled' ? true : ecc === 'Disabled' ? false : null,
        concurrent_kernels: true,
      };
      const result = deviceInfo.safeParse(device);
      if (!result.success) throw new Error(`nvidia-smi said something unexpected of a GPU: ${JSON.stringify(line)}`);
      return device;
    });
}
