import { expect, test } from '@jest/globals';
import { resourcesPerGpu } from './server-resources.ts';

test.each([
  ['plenty', { gpuCount: 8, cpus: 128, memoryGb: 1024, vramGbPerGpu: 80 }, { cpuPerGpu: 4, memoryPerGpuGb: 80 }],
  [
    'memory is the limit',
    { gpuCount: 8, cpus: 34, memoryGb: 326, vramGbPerGpu: 80 },
    { cpuPerGpu: 4, memoryPerGpuGb: 32 },
  ],
  ['few CPUs', { gpuCount: 8, cpus: 10, memoryGb: 14, vramGbPerGpu: 24 }, { cpuPerGpu: 1, memoryPerGpuGb: 1 }],
  ['never 0 GiB', { gpuCount: 1, cpus: 8, memoryGb: 64, vramGbPerGpu: 0 }, { cpuPerGpu: 4, memoryPerGpuGb: 1 }],
])('%s', (_, host, share) => expect(resourcesPerGpu(host)).toEqual(share));
