#pragma once
// What a device does for a prover. The prover (prover.cpp) keeps order, trees of roots and openings; a backend fills, hashes and
// walks. The reference backend defines every answer; a CUDA one returns the same bytes.
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "graval.h"
#include "sha256.hpp"

namespace graval {

/// The device reported an error: the prover can only be destroyed.
struct DeviceFault {};
struct NoDevice {};

/// One column of x_step, and the leaves of all its columns.
struct TraceView {
  const std::int8_t *entries;  // n of them
  const std::vector<Hash> &column_leaves;
};
struct TraceRequest {
  std::uint32_t step, column;
  std::size_t tag;  // the caller's own
};

class Backend {
 public:
  virtual ~Backend() = default;
  /// B_0 or B_1.
  virtual void draw_block(std::uint32_t block) = 0;
  /// B_block = q(B_{block-1} * transposed B_partner).
  virtual void multiply(std::uint32_t block, std::uint32_t partner) = 0;
  /// Merkle root over the rows of a block that was just made.
  virtual Hash block_root(std::uint32_t block) = 0;
  virtual void block_leaves(std::uint32_t block, std::vector<Hash> &out) = 0;
  virtual void read_row(std::uint32_t block, std::uint32_t row, std::int8_t *out) = 0;
  /// T steps from x_0 = PRG(key). leaves: T + 1 trace leaves.
  virtual void walk(const std::uint8_t key[32], std::vector<Hash> &leaves) = 0;
  /// Calls back for each request; requests ascend by step. Only after walk.
  virtual void visit_trace(const std::vector<TraceRequest> &requests, const std::function<void(const TraceRequest &, const TraceView &)> &visit) = 0;
};

std::unique_ptr<Backend> make_reference_backend(const graval_profile &profile, const std::uint8_t seed[32]);
std::uint64_t reference_backend_bytes(const graval_profile &profile) noexcept;

#ifdef GRAVAL_CUDA
/// Throws NoDevice, DeviceFault, std::bad_alloc (device memory included).
std::unique_ptr<Backend> make_cuda_backend(const graval_profile &profile, const std::uint8_t seed[32], std::uint32_t device);
std::uint64_t cuda_backend_bytes(const graval_profile &profile) noexcept;
#endif

}  // namespace graval
