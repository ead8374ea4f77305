/** The GPUs this network pays for (spec/validator-api.md §5.1). Order matters: the first whose pattern is found in a device's name wins. */
export interface GpuType {
  ref: string;
  nameCheck: RegExp;
  memoryGb: number;
  processors: number;
  clockMhz: { base: number; boost: number };
  maxThreadsPerProcessor: number;
  /** absent for types the reference treats without legacy flags */
  computeCapability?: {
    major: number;
    minor: number;
    tensorCores: number;
    concurrentKernels: boolean;
    ecc: boolean;
    sxm: boolean;
  };
  hourlyRateMicroUsd: number;
  graval: { iterations: number; estimateS: number };
}

// One line a type, as in the spec's table.
// oxfmt-ignore
export const GPU_TYPES: readonly GpuType[] = [
  { ref: '3090', nameCheck: /RTX 3090/, memoryGb: 24, processors: 82, clockMhz: { base: 1395, boost: 1695 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 6, tensorCores: 328, concurrentKernels: true, ecc: false, sxm: false }, hourlyRateMicroUsd: 250000, graval: { iterations: 1, estimateS: 70 } },
  { ref: '4090', nameCheck: /RTX 4090/, memoryGb: 24, processors: 128, clockMhz: { base: 2235, boost: 2520 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 9, tensorCores: 512, concurrentKernels: true, ecc: false, sxm: false }, hourlyRateMicroUsd: 400000, graval: { iterations: 2, estimateS: 65 } },
  { ref: '5090', nameCheck: /RTX 5090/, memoryGb: 32, processors: 170, clockMhz: { base: 2017, boost: 2407 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 12, minor: 0, tensorCores: 680, concurrentKernels: true, ecc: false, sxm: false }, hourlyRateMicroUsd: 700000, graval: { iterations: 2, estimateS: 60 } },
  { ref: 'a4000', nameCheck: /RTX A4000(?! Ada)/, memoryGb: 16, processors: 48, clockMhz: { base: 765, boost: 1560 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 6, tensorCores: 168, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 200000, graval: { iterations: 1, estimateS: 75 } },
  { ref: 'a4000_ada', nameCheck: /RTX 4000 Ada/, memoryGb: 20, processors: 48, clockMhz: { base: 765, boost: 2175 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 9, tensorCores: 192, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 210000, graval: { iterations: 1, estimateS: 80 } },
  { ref: 'a5000', nameCheck: /RTX A5000/, memoryGb: 24, processors: 64, clockMhz: { base: 1170, boost: 1695 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 6, tensorCores: 256, concurrentKernels: true, ecc: false, sxm: false }, hourlyRateMicroUsd: 250000, graval: { iterations: 1, estimateS: 92 } },
  { ref: 'a6000', nameCheck: /RTX A6000(?! Ada)/, memoryGb: 48, processors: 84, clockMhz: { base: 1455, boost: 1860 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 6, tensorCores: 336, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 500000, graval: { iterations: 1, estimateS: 140 } },
  { ref: 'a6000_ada', nameCheck: /RTX 6000 Ada/, memoryGb: 48, processors: 142, clockMhz: { base: 915, boost: 2505 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 9, tensorCores: 568, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 750000, graval: { iterations: 1, estimateS: 60 } },
  { ref: 'pro_6000', nameCheck: /RTX PRO 6000/, memoryGb: 96, processors: 188, clockMhz: { base: 1590, boost: 2617 }, maxThreadsPerProcessor: 1024, hourlyRateMicroUsd: 1800000, graval: { iterations: 1, estimateS: 103 } },
  { ref: 'l4', nameCheck: /L4(?!0)/, memoryGb: 24, processors: 58, clockMhz: { base: 795, boost: 2040 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 9, tensorCores: 240, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 250000, graval: { iterations: 1, estimateS: 85 } },
  { ref: 'a10', nameCheck: /A10(?!0)(?!G)/, memoryGb: 24, processors: 72, clockMhz: { base: 1110, boost: 1710 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 6, tensorCores: 208, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 250000, graval: { iterations: 1, estimateS: 82 } },
  { ref: 'a40', nameCheck: /A40/, memoryGb: 48, processors: 84, clockMhz: { base: 1305, boost: 1740 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 6, tensorCores: 336, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 500000, graval: { iterations: 1, estimateS: 142 } },
  { ref: 'l40', nameCheck: /L40(?!S)/, memoryGb: 48, processors: 142, clockMhz: { base: 735, boost: 2490 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 9, tensorCores: 568, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 550000, graval: { iterations: 1, estimateS: 60 } },
  { ref: 'l40s', nameCheck: /L40S/, memoryGb: 48, processors: 142, clockMhz: { base: 1065, boost: 2520 }, maxThreadsPerProcessor: 1536, computeCapability: { major: 8, minor: 9, tensorCores: 568, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 850000, graval: { iterations: 1, estimateS: 60 } },
  { ref: 'a100_40gb', nameCheck: /A100.?PCIE.?40GB/, memoryGb: 40, processors: 108, clockMhz: { base: 1065, boost: 1410 }, maxThreadsPerProcessor: 2048, computeCapability: { major: 8, minor: 0, tensorCores: 432, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 1100000, graval: { iterations: 4, estimateS: 60 } },
  { ref: 'a100_40gb_sxm', nameCheck: /A100.?SXM.?.?40GB/, memoryGb: 40, processors: 108, clockMhz: { base: 1065, boost: 1410 }, maxThreadsPerProcessor: 2048, computeCapability: { major: 8, minor: 0, tensorCores: 432, concurrentKernels: true, ecc: true, sxm: true }, hourlyRateMicroUsd: 1150000, graval: { iterations: 4, estimateS: 60 } },
  { ref: 'a100', nameCheck: /A100.?80GB.?PCIe/, memoryGb: 80, processors: 108, clockMhz: { base: 1065, boost: 1410 }, maxThreadsPerProcessor: 2048, computeCapability: { major: 8, minor: 0, tensorCores: 432, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 1200000, graval: { iterations: 2, estimateS: 58 } },
  { ref: 'a100_sxm', nameCheck: /A100.?SXM.?.?80GB/, memoryGb: 80, processors: 108, clockMhz: { base: 1275, boost: 1410 }, maxThreadsPerProcessor: 2048, computeCapability: { major: 8, minor: 0, tensorCores: 432, concurrentKernels: true, ecc: true, sxm: true }, hourlyRateMicroUsd: 1250000, graval: { iterations: 3, estimateS: 70 } },
  { ref: 'h100', nameCheck: /H100.*PCIe/, memoryGb: 80, processors: 114, clockMhz: { base: 1095, boost: 1755 }, maxThreadsPerProcessor: 2048, computeCapability: { major: 9, minor: 0, tensorCores: 456, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 1790000, graval: { iterations: 2, estimateS: 62 } },
  { ref: 'h100_nvl', nameCheck: /H100.*NVL/, memoryGb: 96, processors: 132, clockMhz: { base: 1590, boost: 1980 }, maxThreadsPerProcessor: 2048, computeCapability: { major: 9, minor: 0, tensorCores: 456, concurrentKernels: true, ecc: true, sxm: true }, hourlyRateMicroUsd: 2250000, graval: { iterations: 3, estimateS: 75 } },
  { ref: 'h100_sxm', nameCheck: /H100.*HBM3/, memoryGb: 80, processors: 132, clockMhz: { base: 1590, boost: 1980 }, maxThreadsPerProcessor: 2048, computeCapability: { major: 9, minor: 0, tensorCores: 528, concurrentKernels: true, ecc: true, sxm: true }, hourlyRateMicroUsd: 2350000, graval: { iterations: 5, estimateS: 70 } },
  { ref: 'h800', nameCheck: /H800.*PCIe/, memoryGb: 80, processors: 114, clockMhz: { base: 1095, boost: 1755 }, maxThreadsPerProcessor: 2048, computeCapability: { major: 9, minor: 0, tensorCores: 456, concurrentKernels: true, ecc: true, sxm: false }, hourlyRateMicroUsd: 1500000, graval: { iterations: 3, estimateS: 75 } },
  { ref: 'h20', nameCheck: / H20$/, memoryGb: 96, processors: 78, clockMhz: { base: 1590, boost: 1980 }, maxThreadsPerProcessor: 1024, hourlyRateMicroUsd: 600000, graval: { iterations: 1, estimateS: 300 } },
  { ref: 'h200', nameCheck: / H200/, memoryGb: 140, processors: 132, clockMhz: { base: 1590, boost: 1980 }, maxThreadsPerProcessor: 2048, computeCapability: { major: 9, minor: 0, tensorCores: 528, concurrentKernels: true, ecc: true, sxm: true }, hourlyRateMicroUsd: 2750000, graval: { iterations: 3, estimateS: 70 } },
  { ref: 'mi300x', nameCheck: /gfx942:sramecc/, memoryGb: 192, processors: 304, clockMhz: { base: 1600, boost: 2100 }, maxThreadsPerProcessor: 256, hourlyRateMicroUsd: 3000000, graval: { iterations: 2, estimateS: 75 } },
  { ref: 'b200', nameCheck: / B200/, memoryGb: 192, processors: 148, clockMhz: { base: 1590, boost: 1965 }, maxThreadsPerProcessor: 1024, hourlyRateMicroUsd: 4500000, graval: { iterations: 2, estimateS: 75 } },
];

const BY_REF: ReadonlyMap<string, GpuType> = new Map(GPU_TYPES.map((type) => [type.ref, type]));

/** Lower-cased before look-up: the reference accepts `H100` and then fails on it. */
export const gpuType = (ref: string): GpuType | null => BY_REF.get(ref.toLowerCase()) ?? null;

/** Bytes that the type sells, not what a device claims (spec/sdk-and-runtime.md §5.7, V); 0 of an unknown type. */
export const soldVramBytes = (ref: string): number => (gpuType(ref)?.memoryGb ?? 0) * 1e9;

/** The type a device's reported name belongs to, or null. */
export const gpuTypeOfName = (name: string): GpuType | null =>
  GPU_TYPES.find((type) => type.nameCheck.test(name)) ?? null;

/** Price basis: the highest hourly rate stands for a compute multiplier of 1 (§5.1). */
export const BASIS_MICRO_USD_PER_HOUR = 4_500_000;
