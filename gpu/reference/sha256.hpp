#pragma once
// SHA-256 (FIPS 180-4), streaming. Defines the hash of the proof; no allocation.
#include <array>
#include <cstddef>
#include <cstdint>

namespace graval {

using Hash = std::array<std::uint8_t, 32>;

class Sha256 {
 public:
  Sha256() noexcept { reset(); }
  void reset() noexcept;
  Sha256 &update(const void *data, std::size_t size) noexcept;
  Sha256 &update(const Hash &hash) noexcept { return update(hash.data(), hash.size()); }
  /// Little-endian, as every integer of the proof.
  Sha256 &update_u32(std::uint32_t value) noexcept;
  Sha256 &update_u8(std::uint8_t value) noexcept { return update(&value, 1); }
  /// The object can only be reset afterwards.
  Hash finish() noexcept;

 private:
  void compress(const std::uint8_t *block, std::size_t count) noexcept;
  std::array<std::uint32_t, 8> state_;
  std::array<std::uint8_t, 64> buffer_;
  std::uint64_t length_;
};

}  // namespace graval
