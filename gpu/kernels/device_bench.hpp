#pragma once
#include <cstdint>
#include <string>

#include "graval.h"

namespace graval {

/// What a card does without this proof: its copy engine, its host's memory, NVIDIA's own library.
struct DeviceRates {
  std::string driver;          // as `nvidia-smi` names it, else "CUDA 13.0"
  std::uint64_t free_bytes;    // of its memory
  double copy_gbps;            // reads and writes of a copy within its memory, together
  double host_block_us;        // to bring block_bytes over from page-locked host memory
  double library_tops;         // cublasGemmEx, int8 to int32; NaN where it is not installed
};

graval_status measure_rates(std::uint32_t device, std::uint64_t block_bytes, DeviceRates &out) noexcept;

}  // namespace graval
