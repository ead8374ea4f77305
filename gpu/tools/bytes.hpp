#pragma once
// Little-endian fields out of and into byte buffers; a reader that runs short remembers it.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace graval {

class ByteReader {
 public:
  ByteReader(const std::uint8_t *data, std::size_t size) noexcept : at_(data), left_(size) {}
  /// nullptr, from then on always, when fewer bytes are left.
  const std::uint8_t *take(std::size_t size) noexcept {
    if (failed_ || size > left_) {
      failed_ = true;
      return nullptr;
    }
    const std::uint8_t *taken = at_;
    at_ += size;
    left_ -= size;
    return taken;
  }
  std::uint32_t u32() noexcept {
    const std::uint8_t *p = take(4);
    return p ? std::uint32_t(p[0]) | std::uint32_t(p[1]) << 8 | std::uint32_t(p[2]) << 16 | std::uint32_t(p[3]) << 24 : 0;
  }
  void copy(std::uint8_t *out, std::size_t size) noexcept {
    if (const std::uint8_t *p = take(size)) std::memcpy(out, p, size);
  }
  bool failed() const noexcept { return failed_; }
  std::size_t left() const noexcept { return left_; }
  const std::uint8_t *rest() const noexcept { return at_; }

 private:
  const std::uint8_t *at_;
  std::size_t left_;
  bool failed_ = false;
};

inline void put_u32(std::vector<std::uint8_t> &out, std::uint32_t value) {
  for (int i = 0; i < 4; i++) out.push_back(std::uint8_t(value >> (8 * i)));
}
inline void put_bytes(std::vector<std::uint8_t> &out, const std::uint8_t *bytes, std::size_t size) { out.insert(out.end(), bytes, bytes + size); }

inline std::string to_hex(const std::uint8_t *bytes, std::size_t size) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (std::size_t i = 0; i < size; i++) {
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 15];
  }
  return text;
}
/// Exactly `size` bytes of lower-case hex.
inline bool from_hex(const std::string &text, std::uint8_t *out, std::size_t size) {
  if (text.size() != 2 * size) return false;
  for (std::size_t i = 0; i < text.size(); i++) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return false;
    out[i / 2] = std::uint8_t(i % 2 == 0 ? digit << 4 : out[i / 2] | digit);
  }
  return true;
}

}  // namespace graval
