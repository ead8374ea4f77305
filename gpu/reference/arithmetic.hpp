#pragma once
// The exact arithmetic of the proof: int8, int32, uint32 only (docs/proof.md "Exact definition"). Compiles for host and device.
#include <cstdint>

#ifdef __CUDACC__
#define GRAVAL_HD __host__ __device__ __forceinline__
#else
#define GRAVAL_HD inline
#endif

namespace graval {

constexpr std::uint32_t MULTIPLIER = 0x9e3779b1u;
/// Added to the step of a walk's tweak, so that fill and walk never share one.
constexpr std::uint32_t WALK_DOMAIN = 0x80000000u;

/// -128 does not occur: it becomes -127.
GRAVAL_HD std::int8_t clamp_entry(std::int8_t value) { return value == -128 ? std::int8_t(-127) : value; }

GRAVAL_HD std::uint32_t fill_tweak(std::uint32_t block, std::uint32_t row, std::uint32_t column) {
  return block * 0x27d4eb2fu + row * 0x85ebca6bu + column * 0xc2b2ae35u;
}
/// step: number of the x that is made, t + 1.
GRAVAL_HD std::uint32_t walk_tweak(std::uint32_t step, std::uint32_t row, std::uint32_t column) {
  return fill_tweak(WALK_DOMAIN + step, row, column);
}

/// int32 -> int8: top byte of (sum * 0x9E3779B1) XOR tweak.
GRAVAL_HD std::int8_t q(std::int32_t sum, std::uint32_t tweak) {
  const std::uint32_t word = (std::uint32_t(sum) * MULTIPLIER) ^ tweak;
  return clamp_entry(std::int8_t(word >> 24));
}

/// Block of step t: every M steps read every block once, in an order that nothing a prover does can change.
GRAVAL_HD std::uint32_t walk_block(std::uint32_t step, std::uint32_t blocks) { return step % blocks; }

/// n <= 131072 keeps the sum below 2^31.
GRAVAL_HD std::int32_t dot(const std::int8_t *a, const std::int8_t *b, std::uint32_t n) {
  std::int32_t sum = 0;
  for (std::uint32_t m = 0; m < n; m++) sum += std::int32_t(a[m]) * std::int32_t(b[m]);
  return sum;
}

}  // namespace graval
