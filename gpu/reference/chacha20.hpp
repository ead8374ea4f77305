#pragma once
// PRG(key): the ChaCha20 key stream (RFC 8439, zero nonce, counter from 0) as int8 entries, any range of it.
#include <cstddef>
#include <cstdint>

#include "arithmetic.hpp"

namespace graval {

/// One 64-byte block of the key stream. key: eight little-endian words.
GRAVAL_HD void chacha20_block(const std::uint32_t key[8], std::uint32_t counter, std::uint32_t out[16]) {
  std::uint32_t s[16] = {0x61707865u, 0x3320646eu, 0x79622d32u, 0x6b206574u, key[0], key[1], key[2], key[3],
                         key[4],      key[5],      key[6],      key[7],      counter, 0,      0,      0};
  std::uint32_t x[16];
  for (int i = 0; i < 16; i++) x[i] = s[i];
#define GRAVAL_ROTL(v, by) (((v) << (by)) | ((v) >> (32 - (by))))
#define GRAVAL_QR(a, b, c, d)                        \
  x[a] += x[b]; x[d] = GRAVAL_ROTL(x[d] ^ x[a], 16); \
  x[c] += x[d]; x[b] = GRAVAL_ROTL(x[b] ^ x[c], 12); \
  x[a] += x[b]; x[d] = GRAVAL_ROTL(x[d] ^ x[a], 8);  \
  x[c] += x[d]; x[b] = GRAVAL_ROTL(x[b] ^ x[c], 7);
  for (int round = 0; round < 10; round++) {
    GRAVAL_QR(0, 4, 8, 12) GRAVAL_QR(1, 5, 9, 13) GRAVAL_QR(2, 6, 10, 14) GRAVAL_QR(3, 7, 11, 15)
    GRAVAL_QR(0, 5, 10, 15) GRAVAL_QR(1, 6, 11, 12) GRAVAL_QR(2, 7, 8, 13) GRAVAL_QR(3, 4, 9, 14)
  }
#undef GRAVAL_QR
#undef GRAVAL_ROTL
  for (int i = 0; i < 16; i++) out[i] = x[i] + s[i];
}

/// Entries [offset, offset + count) of the stream of `key`. offset + count <= 2^38 (the counter is 32 bits).
void prg(const std::uint8_t key[32], std::uint64_t offset, std::int8_t *out, std::size_t count) noexcept;

}  // namespace graval
