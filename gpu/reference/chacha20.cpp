#include "chacha20.hpp"

namespace graval {

void prg(const std::uint8_t key[32], std::uint64_t offset, std::int8_t *out, std::size_t count) noexcept {
  std::uint32_t words[8];
  for (int i = 0; i < 8; i++)
    words[i] = std::uint32_t(key[4 * i]) | std::uint32_t(key[4 * i + 1]) << 8 | std::uint32_t(key[4 * i + 2]) << 16 |
               std::uint32_t(key[4 * i + 3]) << 24;
  std::uint32_t stream[16];
  while (count > 0) {
    chacha20_block(words, std::uint32_t(offset / 64), stream);
    std::size_t at = offset % 64;
    const std::size_t take = count < 64 - at ? count : 64 - at;
    for (std::size_t i = 0; i < take; i++, at++)
      out[i] = clamp_entry(std::int8_t(std::uint8_t(stream[at / 4] >> (8 * (at % 4)))));
    out += take;
    offset += take;
    count -= take;
  }
}

}  // namespace graval
