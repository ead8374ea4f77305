// The verifier: recomputes what is opened. The binary form has no lengths of its own: each part's size follows from profile,
// samples and the blocks named by earlier parts, so there is nothing to parse, and one bound to check before each read.
#include <cstring>
#include <vector>

#include "arithmetic.hpp"
#include "chacha20.hpp"
#include "graval.h"
#include "hashes.hpp"
#include "merkle.hpp"

namespace graval {
namespace {

/// Reads forward; a short read is remembered and yields nothing.
class Reader {
 public:
  Reader(const std::uint8_t *data, std::size_t size) : at_(data), left_(size) {}
  const std::uint8_t *take(std::size_t size) {
    if (size > left_) return nullptr;
    const std::uint8_t *taken = at_;
    at_ += size;
    left_ -= size;
    return taken;
  }
  bool at_end() const { return left_ == 0; }

 private:
  const std::uint8_t *at_;
  std::size_t left_;
};

struct Row { const std::int8_t *entries; Hash block_root; };
struct Trace { const std::int8_t *entries; Hash leaf; };

class Verifier {
 public:
  Verifier(const graval_claim &claim, const std::uint8_t *openings, std::size_t size) : claim_(claim), p_(claim.profile), reader_(openings, size) {}

  graval_fault run(const graval_fill_sample *fill, const graval_walk_sample *walk) {
    for (std::uint32_t i = 0; i < p_.fill_samples; i++)
      if (const graval_fault fault = check_fill(fill[i])) return fault;
    for (std::uint32_t i = 0; i < p_.walk_samples; i++)
      if (const graval_fault fault = check_walk(walk[i])) return fault;
    return reader_.at_end() ? GRAVAL_FAULT_NONE : GRAVAL_FAULT_OPENINGS_MALFORMED;
  }

 private:
  enum Found { SHORT, NOT_COMMITTED, COMMITTED };

  bool entries_are_sound(const std::int8_t *entries) const { return std::memchr(entries, 0x80, p_.n) == nullptr; }

  Found open_row(std::uint32_t block, std::uint32_t row, Row &out) {
    const auto *entries = reinterpret_cast<const std::int8_t *>(reader_.take(p_.n));
    const std::uint8_t *path = entries ? reader_.take(32 * merkle_path_length(row, p_.n)) : nullptr;
    const std::uint8_t *root_path = path ? reader_.take(32 * merkle_path_length(block, p_.blocks)) : nullptr;
    if (!root_path) return SHORT;
    if (!entries_are_sound(entries)) return NOT_COMMITTED;
    out.entries = entries;
    out.block_root = root_from_path(row_leaf(block, row, entries, p_.n), row, p_.n, path);
    const Hash root = root_from_path(block_root_leaf(block, out.block_root), block, p_.blocks, root_path);
    return std::memcmp(root.data(), claim_.root, 32) == 0 ? COMMITTED : NOT_COMMITTED;
  }

  Found open_trace(std::uint32_t step, std::uint32_t column, Trace &out) {
    const auto *entries = reinterpret_cast<const std::int8_t *>(reader_.take(p_.n));
    const std::uint8_t *column_path = entries ? reader_.take(32 * merkle_path_length(column, p_.k)) : nullptr;
    const std::uint8_t *path = column_path ? reader_.take(32 * merkle_path_length(step, std::uint64_t(p_.steps) + 1)) : nullptr;
    if (!path) return SHORT;
    if (!entries_are_sound(entries)) return NOT_COMMITTED;
    out.entries = entries;
    out.leaf = trace_leaf(step, root_from_path(column_leaf(step, column, entries, p_.n), column, p_.k, column_path));
    const Hash root = root_from_path(out.leaf, step, std::uint64_t(p_.steps) + 1, path);
    return std::memcmp(root.data(), claim_.trace_root, 32) == 0 ? COMMITTED : NOT_COMMITTED;
  }

  graval_fault check_fill(const graval_fill_sample &sample) {
    Row row, left, right;
    if (const graval_fault fault = fault_of(open_row(sample.block, sample.row, row), GRAVAL_FAULT_FILL_ROW_NOT_COMMITTED)) return fault;
    if (sample.block < 2) {
      std::vector<std::int8_t> drawn(p_.n);
      prg(claim_.seed, std::uint64_t(sample.block) * p_.n * p_.n + std::uint64_t(sample.row) * p_.n, drawn.data(), p_.n);
      return std::memcmp(drawn.data(), row.entries, p_.n) == 0 ? GRAVAL_FAULT_NONE : GRAVAL_FAULT_FILL_SEED_BLOCK_DIFFERS;
    }
    if (const graval_fault fault = fault_of(open_row(sample.block - 1, sample.row, left), GRAVAL_FAULT_FILL_ROW_NOT_COMMITTED)) return fault;
    const std::uint32_t partner = partner_block(claim_.seed, sample.block, left.block_root);
    if (const graval_fault fault = fault_of(open_row(partner, sample.column, right), GRAVAL_FAULT_FILL_ROW_NOT_COMMITTED)) return fault;
    const std::int8_t entry = q(dot(left.entries, right.entries, p_.n), fill_tweak(sample.block, sample.row, sample.column));
    return entry == row.entries[sample.column] ? GRAVAL_FAULT_NONE : GRAVAL_FAULT_FILL_ENTRY_DIFFERS;
  }

  graval_fault check_walk(const graval_walk_sample &sample) {
    Trace from, to;
    if (const graval_fault fault = fault_of(open_trace(sample.step, sample.column, from), GRAVAL_FAULT_WALK_LEAF_NOT_COMMITTED)) return fault;
    if (const graval_fault fault = fault_of(open_trace(sample.step + 1, sample.column, to), GRAVAL_FAULT_WALK_LEAF_NOT_COMMITTED)) return fault;
    if (sample.step == 0 && from.leaf != start_leaf()) return GRAVAL_FAULT_WALK_START_DIFFERS;
    if (sample.step + 1 == p_.steps && std::memcmp(to.leaf.data(), claim_.digest, 32) != 0) return GRAVAL_FAULT_WALK_DIGEST_DIFFERS;
    Row row;
    if (const graval_fault fault = fault_of(open_row(walk_block(sample.step, p_.blocks), sample.row, row), GRAVAL_FAULT_WALK_ROW_NOT_COMMITTED)) return fault;
    const std::int8_t entry = q(dot(row.entries, from.entries, p_.n), walk_tweak(sample.step + 1, sample.row, sample.column));
    return entry == to.entries[sample.row] ? GRAVAL_FAULT_NONE : GRAVAL_FAULT_WALK_ENTRY_DIFFERS;
  }

  /// Trace leaf 0 as the challenge demands it: every column of x0, not only the sampled one. Computed once.
  const Hash &start_leaf() {
    if (have_start_) return start_;
    const Hash key = start_key(claim_.seed, claim_.nonce2, claim_.root);
    std::vector<std::int8_t> column(p_.n);
    std::vector<Hash> leaves(p_.k);
    for (std::uint32_t c = 0; c < p_.k; c++) {
      prg(key.data(), std::uint64_t(c) * p_.n, column.data(), p_.n);
      leaves[c] = column_leaf(0, c, column.data(), p_.n);
    }
    start_ = trace_leaf(0, MerkleTree(std::move(leaves)).root());
    have_start_ = true;
    return start_;
  }

  static graval_fault fault_of(Found found, graval_fault not_committed) {
    return found == COMMITTED ? GRAVAL_FAULT_NONE : found == SHORT ? GRAVAL_FAULT_OPENINGS_MALFORMED : not_committed;
  }

  const graval_claim &claim_;
  const graval_profile &p_;
  Reader reader_;
  Hash start_{};
  bool have_start_ = false;
};

}  // namespace
}  // namespace graval

extern "C" graval_status graval_verify(const graval_claim *claim, const graval_fill_sample *fill, size_t fill_count, const graval_walk_sample *walk,
                                       size_t walk_count, const uint8_t *openings, size_t size, graval_fault *fault) {
  if (!claim || !fill || !walk || !fault || (!openings && size > 0)) return GRAVAL_INVALID_ARGUMENT;
  try {
    if (!graval::is_sound(claim->profile)) *fault = GRAVAL_FAULT_CHALLENGE_MALFORMED;
    else if (!graval::are_sound(claim->profile, fill, fill_count, walk, walk_count)) *fault = GRAVAL_FAULT_SAMPLES_MALFORMED;
    else *fault = graval::Verifier(*claim, openings, size).run(fill, walk);
    return *fault == GRAVAL_FAULT_NONE ? GRAVAL_OK : GRAVAL_REFUSED;
  } catch (...) {  // only allocation throws here
    return GRAVAL_OUT_OF_MEMORY;
  }
}
