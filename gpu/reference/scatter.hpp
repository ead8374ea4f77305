#pragma once
// Well spread numbers that repeat exactly: for sample places and invented contents of benches and tests. The proof uses none.
#include <cstdint>

namespace graval {

/// Murmur3's finaliser.
inline std::uint32_t scatter(std::uint32_t word) {
  word = (word ^ (word >> 16)) * 0x85ebca6bu;
  word = (word ^ (word >> 13)) * 0xc2b2ae35u;
  return word ^ (word >> 16);
}

}  // namespace graval
