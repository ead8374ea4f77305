/** What a host has; memory in GiB, rounded down. */
export interface HostCapacity {
  gpuCount: number;
  cpus: number;
  memoryGb: number;
  vramGbPerGpu: number;
}

/** A GPU's share of its host (spec/miner.md §6.3): two CPUs and 6 GiB stay with the system. Never below 1. */
export function resourcesPerGpu({ gpuCount, cpus, memoryGb, vramGbPerGpu }: HostCapacity): {
  cpuPerGpu: number;
  memoryPerGpuGb: number;
} {
  const sparedCpus = cpus - 2;
  const sparedMemoryGb = memoryGb - 6;
  return {
    cpuPerGpu: sparedCpus <= gpuCount ? 1 : Math.min(4, Math.floor(sparedCpus / gpuCount)),
    memoryPerGpuGb:
      sparedMemoryGb <= gpuCount
        ? 1
        : Math.max(1, Math.min(vramGbPerGpu, Math.floor((0.8 * sparedMemoryGb) / gpuCount))),
  };
}
