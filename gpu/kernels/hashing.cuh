#pragma once
// SHA-256 and the PRG on the device, one thread a message or key-stream block; same bytes as hashes.hpp, merkle.hpp, chacha20.hpp.
// Lines (rows of a block, columns of an x) are n bytes at a pitch that is a multiple of 64, so 16-byte loads are always aligned.
#include <cstdint>

#include "arithmetic.hpp"
#include "chacha20.hpp"

namespace graval {
namespace device {

/// A hash in memory is its 32 bytes in order, as eight little-endian words.
struct alignas(16) HashWords { std::uint32_t word[8]; };

__constant__ std::uint32_t SHA_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

__device__ __forceinline__ std::uint32_t rotr(std::uint32_t x, int by) { return __funnelshift_r(x, x, by); }
__device__ __forceinline__ std::uint32_t swap_bytes(std::uint32_t x) { return __byte_perm(x, 0, 0x0123); }
/// Big-endian word of the bytes x[3], y[0], y[1], y[2]: a message whose prefix is one byte past a word boundary.
__device__ __forceinline__ std::uint32_t straddle(std::uint32_t x, std::uint32_t y) { return __byte_perm(x, y, 0x3456); }

struct Sha {
  std::uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

  /// w: 16 big-endian message words; destroyed.
  __device__ __forceinline__ void compress(std::uint32_t w[16]) {
    std::uint32_t s[8];
#pragma unroll
    for (int i = 0; i < 8; i++) s[i] = h[i];
#pragma unroll
    for (int t = 0; t < 64; t++) {
      if (t >= 16) {
        const std::uint32_t a = w[(t + 1) & 15], b = w[(t + 14) & 15];
        w[t & 15] += (rotr(a, 7) ^ rotr(a, 18) ^ (a >> 3)) + w[(t + 9) & 15] + (rotr(b, 17) ^ rotr(b, 19) ^ (b >> 10));
      }
      const std::uint32_t t1 = s[7] + (rotr(s[4], 6) ^ rotr(s[4], 11) ^ rotr(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + SHA_K[t] + w[t & 15];
      const std::uint32_t t2 = (rotr(s[0], 2) ^ rotr(s[0], 13) ^ rotr(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
#pragma unroll
      for (int i = 7; i > 0; i--) s[i] = s[i - 1];
      s[4] += t1;
      s[0] = t1 + t2;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) h[i] += s[i];
  }

  __device__ __forceinline__ HashWords finished() const {
    HashWords out;
#pragma unroll
    for (int i = 0; i < 8; i++) out.word[i] = swap_bytes(h[i]);
    return out;
  }
};

/// Message byte p of: prefix, data, 0x80, zeros, and the length in bits at the end of the last block.
template <typename Byte>
__device__ __forceinline__ std::uint32_t padded_byte(std::uint64_t p, std::uint64_t length, std::uint64_t padded, Byte byte) {
  if (p < length) return byte(p);
  if (p == length) return 0x80;
  return p >= padded - 8 ? std::uint32_t((length * 8) >> (8 * (padded - 1 - p))) & 0xff : 0;
}

template <typename Byte>
__device__ __forceinline__ void padded_words(std::uint64_t block, std::uint64_t length, std::uint64_t padded, Byte byte, std::uint32_t w[16]) {
#pragma unroll
  for (int t = 0; t < 16; t++) {
    std::uint32_t word = 0;
    for (int i = 0; i < 4; i++) word = word << 8 | padded_byte(64 * block + 4 * t + i, length, padded, byte);
    w[t] = word;
  }
}

/// out[i] = H(tag || u32(index + i / per) || u32(first + i % per) || line i), i < count. One thread a line: lines are many.
static __global__ void hash_lines(std::uint32_t tag, std::uint32_t index, std::uint32_t per, std::uint32_t first, std::uint32_t count, const std::int8_t *lines,
                                  std::size_t pitch, std::uint32_t n, HashWords *out) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const auto *line = reinterpret_cast<const std::uint8_t *>(lines) + i * pitch;
  const auto *vectors = reinterpret_cast<const uint4 *>(line);
  const std::uint32_t outer = index + i / per, inner = first + i % per;
  const auto byte = [&](std::uint64_t p) -> std::uint32_t {
    if (p >= 9) return line[p - 9];
    return p == 0 ? tag : p < 5 ? (outer >> (8 * (p - 1))) & 0xff : (inner >> (8 * (p - 5))) & 0xff;
  };
  const std::uint64_t length = 9ull + n, padded = (length + 9 + 63) / 64 * 64;
  Sha sha;
  std::uint32_t w[16];
  padded_words(0, length, padded, byte, w);
  sha.compress(w);
  std::uint64_t block = 1;
  if (64 * block + 64 <= length) {
    // full blocks of data: message word t straddles line words t - 3 and t - 2 of this block
    uint4 last = vectors[3];
    for (; 64 * block + 64 <= length; block++) {
      const uint4 a = vectors[4 * block], b = vectors[4 * block + 1], c = vectors[4 * block + 2], d = vectors[4 * block + 3];
      w[0] = straddle(last.y, last.z), w[1] = straddle(last.z, last.w), w[2] = straddle(last.w, a.x), w[3] = straddle(a.x, a.y);
      w[4] = straddle(a.y, a.z), w[5] = straddle(a.z, a.w), w[6] = straddle(a.w, b.x), w[7] = straddle(b.x, b.y);
      w[8] = straddle(b.y, b.z), w[9] = straddle(b.z, b.w), w[10] = straddle(b.w, c.x), w[11] = straddle(c.x, c.y);
      w[12] = straddle(c.y, c.z), w[13] = straddle(c.z, c.w), w[14] = straddle(c.w, d.x), w[15] = straddle(d.x, d.y);
      last = d;
      sha.compress(w);
    }
  }
  for (; 64 * block < padded; block++) {
    padded_words(block, length, padded, byte, w);
    sha.compress(w);
  }
  out[i] = sha.finished();
}

/// One level up of `trees` trees of `count` nodes each, laid one after the other; out has (count + 1) / 2 a tree.
static __global__ void merkle_level(const HashWords *in, std::uint32_t count, std::uint32_t trees, HashWords *out) {
  const std::uint32_t above = (count + 1) / 2;
  const std::uint64_t i = std::uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= std::uint64_t(above) * trees) return;
  const std::uint32_t node = std::uint32_t(i % above);
  const HashWords *pair = in + (i / above) * count + 2 * node;
  if (2 * node + 1 == count) {
    out[i] = pair[0];
    return;
  }
  Sha sha;
  std::uint32_t w[16];
  w[0] = straddle(0x01000000u, pair[0].word[0]);
#pragma unroll
  for (int t = 1; t < 16; t++) {
    const std::uint32_t x = t <= 8 ? pair[0].word[t - 1] : pair[1].word[t - 9];
    const std::uint32_t y = t < 8 ? pair[0].word[t] : pair[1].word[t - 8];
    w[t] = straddle(x, y);
  }
  sha.compress(w);
  w[0] = straddle(pair[1].word[7], 0x80u);
#pragma unroll
  for (int t = 1; t < 15; t++) w[t] = 0;
  w[15] = 65 * 8;
  sha.compress(w);
  out[i] = sha.finished();
}

/// Trace leaves of `count` steps from `step`: H(0x04 || u32(t) || root of the columns), one block of 64 bytes each.
static __global__ void hash_trace(std::uint32_t step, std::uint32_t count, const HashWords *roots, HashWords *out) {
  const std::uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const auto *root = reinterpret_cast<const std::uint8_t *>(roots + i);
  const std::uint32_t t = step + i;
  const auto byte = [&](std::uint64_t p) -> std::uint32_t { return p == 0 ? 4 : p < 5 ? (t >> (8 * (p - 1))) & 0xff : root[p - 5]; };
  Sha sha;
  std::uint32_t w[16];
  padded_words(0, 5 + sizeof(HashWords), 64, byte, w);
  sha.compress(w);
  out[i] = sha.finished();
}

struct PrgKey { std::uint32_t word[8]; };

/// `lines` lines of n entries from byte `offset` of the key stream. One thread a 64-byte block of it.
static __global__ void draw_lines(PrgKey key, std::uint64_t offset, std::uint64_t count, std::uint32_t n, std::size_t pitch, std::int8_t *out) {
  const std::uint64_t counter = offset / 64 + std::uint64_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (64 * counter >= offset + count) return;
  std::uint32_t stream[16];
  chacha20_block(key.word, std::uint32_t(counter), stream);
#pragma unroll
  for (int i = 0; i < 64; i++) {
    const std::uint64_t at = 64 * counter + i;
    if (at < offset || at >= offset + count) continue;
    const std::uint64_t entry = at - offset;
    out[entry / n * pitch + entry % n] = clamp_entry(std::int8_t(std::uint8_t(stream[i / 4] >> (8 * (i % 4)))));
  }
}

}  // namespace device
}  // namespace graval
