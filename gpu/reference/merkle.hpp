#pragma once
// Merkle trees of the proof: node = H(0x01 || left || right); the last of an odd level moves up unchanged.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "sha256.hpp"

namespace graval {

inline Hash merkle_parent(const Hash &left, const Hash &right) noexcept {
  return Sha256().update_u8(1).update(left).update(right).finish();
}

/// Number of siblings on the path of leaf `index` of `count`: what a path's length must be, exactly.
inline std::size_t merkle_path_length(std::uint64_t index, std::uint64_t count) noexcept {
  std::size_t length = 0;
  for (; count > 1; count = (count + 1) / 2, index /= 2)
    if ((index ^ 1) < count) length++;
  return length;
}

/// A tree that keeps all levels, for a prover. levels[0] are the leaf hashes.
class MerkleTree {
 public:
  explicit MerkleTree(std::vector<Hash> leaves) {
    levels_.push_back(std::move(leaves));
    while (levels_.back().size() > 1) {
      const std::vector<Hash> &below = levels_.back();
      std::vector<Hash> above((below.size() + 1) / 2);
      for (std::size_t at = 0; at < above.size(); at++)
        above[at] = 2 * at + 1 < below.size() ? merkle_parent(below[2 * at], below[2 * at + 1]) : below[2 * at];
      levels_.push_back(std::move(above));
    }
  }
  const Hash &root() const noexcept { return levels_.back()[0]; }
  const Hash &leaf(std::size_t index) const noexcept { return levels_[0][index]; }
  /// Siblings from the leaf up, one after the other; returns the end.
  std::uint8_t *write_path(std::size_t index, std::uint8_t *out) const {
    for (std::size_t level = 0; level + 1 < levels_.size(); level++, index /= 2) {
      const std::size_t sibling = index ^ 1;
      if (sibling >= levels_[level].size()) continue;
      std::memcpy(out, levels_[level][sibling].data(), 32);
      out += 32;
    }
    return out;
  }

 private:
  std::vector<std::vector<Hash>> levels_;
};

/// The root that a leaf and `merkle_path_length(index, count)` siblings lead to.
inline Hash root_from_path(Hash hash, std::uint64_t index, std::uint64_t count, const std::uint8_t *path) noexcept {
  for (; count > 1; count = (count + 1) / 2, index /= 2) {
    if ((index ^ 1) >= count) continue;
    Hash sibling;
    for (std::size_t i = 0; i < 32; i++) sibling[i] = path[i];
    path += 32;
    hash = index & 1 ? merkle_parent(sibling, hash) : merkle_parent(hash, sibling);
  }
  return hash;
}

}  // namespace graval
