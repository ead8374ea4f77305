#pragma once
// One whole proof on a device with its times, and the row of gpu/profiles.json that follows from such times. Plain C++ over the C
// interface: on the CPU reference (device -1) it runs too, only slower.
#include <cstdint>
#include <string>

#include "graval.h"

namespace graval {

struct TimedProof {
  double fill_ms = 0, walk_ms = 0, open_ms = 0;
  std::size_t openings_bytes = 0;
  graval_fault fault = GRAVAL_FAULT_NONE;
};

/// GRAVAL_OK: the proof was made and verified. GRAVAL_REFUSED: the verifier says no, `fault` why.
graval_status prove_timed(const graval_profile &profile, std::int32_t device, TimedProof &out);

/// 8192 for memory up to 48 GB, 16384 above: large enough that the host memory is far behind, small enough to fill to the last percent.
std::uint32_t edge_for(std::uint64_t vram_bytes);
/// M: blocks of n^2 bytes that fill at least 95 % of the memory that is sold.
std::uint64_t blocks_for(std::uint64_t vram_bytes, std::uint32_t n);
/// T: a walk of about `seconds` that visits every block at least 20 times, within the proof's bound.
std::uint32_t steps_for(std::uint32_t blocks, double step_us, double seconds);

struct Calibration {
  std::string type, card, driver, date;  // type: ref of the GPU table; date: YYYY-MM-DD
  double copy_gbps, host_block_us;
  graval_profile profile;  // n, blocks, and k, where 0 has it chosen; the rest is chosen always
  std::int32_t device;
  double walk_seconds;
};

/// Sets profile.k, where it is 0, to the widest of 256, 128, 64 at which a step takes at most 1.3 times what reading its block takes: a wider
/// x asks for more products, but past that a faster program than this one would gain time. `step_us` is what a step with it takes.
graval_status choose_k(Calibration &asked, double &step_us);

/// Proves with the profile, k chosen as above, and writes its row of gpu/profiles.json.
graval_status calibrate(Calibration asked, std::string &row);

}  // namespace graval
