#pragma once
// What the proof hashes, each under a tag byte of its own (docs/proof.md "Exact definition"); 0x01 is the Merkle node's.
#include <cstdint>

#include "graval.h"
#include "sha256.hpp"

namespace graval {

inline Hash row_leaf(std::uint32_t block, std::uint32_t row, const std::int8_t *entries, std::uint32_t n) noexcept {
  return Sha256().update_u8(0).update_u32(block).update_u32(row).update(entries, n).finish();
}
inline Hash block_root_leaf(std::uint32_t block, const Hash &root) noexcept {
  return Sha256().update_u8(2).update_u32(block).update(root).finish();
}
inline Hash column_leaf(std::uint32_t step, std::uint32_t column, const std::int8_t *entries, std::uint32_t n) noexcept {
  return Sha256().update_u8(3).update_u32(step).update_u32(column).update(entries, n).finish();
}
/// Trace leaf t binds x_t by the root over its columns. D is leaf T.
inline Hash trace_leaf(std::uint32_t step, const Hash &columns_root) noexcept {
  return Sha256().update_u8(4).update_u32(step).update(columns_root).finish();
}
/// j of block i >= 2: the first 8 bytes, little-endian, of H(0x05 || S || i || root of block i-1), modulo i - 1.
inline std::uint32_t partner_block(const std::uint8_t seed[32], std::uint32_t block, const Hash &previous_root) noexcept {
  const Hash digest = Sha256().update_u8(5).update(seed, 32).update_u32(block).update(previous_root).finish();
  std::uint64_t word = 0;
  for (int i = 7; i >= 0; i--) word = word << 8 | digest[i];
  return std::uint32_t(word % (block - 1));
}
/// Key of the PRG that draws x0: H(S || N2 || R).
inline Hash start_key(const std::uint8_t seed[32], const std::uint8_t nonce2[32], const std::uint8_t root[32]) noexcept {
  return Sha256().update(seed, 32).update(nonce2, 32).update(root, 32).finish();
}

inline bool is_sound(const graval_profile &p) noexcept {
  return p.n >= 1 && p.n <= 131072 && p.k >= 1 && p.k <= 4096 && p.blocks >= 2 && p.blocks <= 65536 && p.steps >= 1 && p.steps <= (1u << 20) &&
         p.fill_samples >= 1 && p.fill_samples <= 4096 && p.walk_samples >= 2 && p.walk_samples <= 4096;
}

inline bool are_sound(const graval_profile &p, const graval_fill_sample *fill, std::size_t fills, const graval_walk_sample *walk,
                      std::size_t walks) noexcept {
  if (fills != p.fill_samples || walks != p.walk_samples) return false;
  for (std::size_t i = 0; i < fills; i++)
    if (fill[i].block >= p.blocks || fill[i].row >= p.n || fill[i].column >= p.n) return false;
  bool first = false, last = false;
  for (std::size_t i = 0; i < walks; i++) {
    if (walk[i].step >= p.steps || walk[i].row >= p.n || walk[i].column >= p.k) return false;
    first |= walk[i].step == 0;
    last |= walk[i].step == p.steps - 1;
  }
  return first && last;
}

}  // namespace graval
