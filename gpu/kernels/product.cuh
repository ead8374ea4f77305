#pragma once
// The two products of the proof on int8 tensor cores (mma.sync m16n8k32; two m8n8k16 pairs on sm_75), with q fused in, so that
// int32 sums never leave registers. Both operands are K-contiguous lines: rows of a block, columns of an x.
//
// A thread block of 8 warps makes 128 x BN outputs; K in slices of 64 bytes, STAGES of them in flight (cp.async). Slices lie in
// shared memory as lines of four 16-byte chunks, chunk c of line l at c ^ (l / 2 % 4): ldmatrix and the copies meet no bank twice.
#include <cstdint>

#include "arithmetic.hpp"
#ifndef GRAVAL_EMULATE
#include "tensor.cuh"
#endif

#ifndef GRAVAL_DYNAMIC_SHARED
#define GRAVAL_DYNAMIC_SHARED(name) extern __shared__ __align__(128) std::int8_t name[]
#endif

namespace graval {
namespace device {

constexpr int TILE_ROWS = 128, SLICE = 64, PRODUCT_THREADS = 256;
constexpr int WARPS_DOWN = 2, WARPS_ACROSS = 4;

struct FillArgs {
  const std::int8_t *left, *right;  // B_{i-1}, B_j
  std::int8_t *out;                 // B_i
  std::size_t pitch;                // of all three; zeros behind entry n of a line
  std::uint32_t n, block, row_begin, row_end;
};

/// next = q(block * x). Which block is known to whoever launches it: steps wait for nothing but one another.
struct WalkArgs {
  const std::int8_t *block, *x;
  std::int8_t *next;
  std::size_t pitch;        // of all three
  std::uint32_t n, k, step; // step: number of the x that is made, t + 1
};

constexpr std::size_t product_shared_bytes(int columns, int stages) {
  const std::size_t slices = std::size_t(stages) * (TILE_ROWS + columns) * SLICE;
  const std::size_t by_row = std::size_t(TILE_ROWS) * (columns + 16), by_column = std::size_t(columns) * (TILE_ROWS + 16);
  const std::size_t tile = by_row > by_column ? by_row : by_column;
  return slices > tile ? slices : tile;
}

/// Sums of lines [row0, row0 + 128) of `left` times lines [col0, col0 + BN) of `right`; lines past an end count as zeros.
template <int BN, int STAGES>
struct Tile {
  static constexpr int WARP_ROWS = TILE_ROWS / WARPS_DOWN, WARP_COLUMNS = BN / WARPS_ACROSS;
  static constexpr int MT = WARP_ROWS / 16, NT = WARP_COLUMNS / 8;
  static_assert(NT % 2 == 0, "right lines are loaded sixteen at a time");
  std::int32_t sums[MT][NT][4];

  static __device__ __forceinline__ std::int8_t *chunk_of(std::int8_t *lines, int line, int chunk) { return lines + line * SLICE + ((chunk ^ ((line >> 1) & 3)) << 4); }

  __device__ __forceinline__ void fetch(std::int8_t *stage, const std::int8_t *left, std::uint32_t row0, std::uint32_t rows, const std::int8_t *right,
                                        std::uint32_t col0, std::uint32_t columns, std::size_t pitch, std::size_t at) {
#pragma unroll
    for (int i = 0; i < (TILE_ROWS + BN) * 4 / PRODUCT_THREADS; i++) {
      const int piece = i * PRODUCT_THREADS + int(threadIdx.x), line = piece >> 2, chunk = piece & 3;
      const bool is_left = line < TILE_ROWS;
      const std::uint32_t index = is_left ? row0 + std::uint32_t(line) : col0 + std::uint32_t(line - TILE_ROWS);
      const bool valid = index < (is_left ? rows : columns);
      const std::int8_t *from = (is_left ? left : right) + (valid ? index * pitch : 0) + at + std::size_t(chunk) * 16;
      copy_chunk(chunk_of(stage, line, chunk), from, valid);
    }
  }

  __device__ __forceinline__ void run(std::int8_t *shared, const std::int8_t *left, std::uint32_t row0, std::uint32_t rows, const std::int8_t *right,
                                      std::uint32_t col0, std::uint32_t columns, std::size_t pitch) {
    constexpr int STAGE_BYTES = (TILE_ROWS + BN) * SLICE;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int warp_row = (warp / WARPS_ACROSS) * WARP_ROWS, warp_column = (warp % WARPS_ACROSS) * WARP_COLUMNS;
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int c = 0; c < NT; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) sums[m][c][i] = 0;

    const int slices = int(pitch / SLICE);
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
      if (s < slices) fetch(shared + s * STAGE_BYTES, left, row0, rows, right, col0, columns, pitch, std::size_t(s) * SLICE);
      close_slice();
    }
    for (int slice = 0; slice < slices; slice++) {
      await_slices<STAGES - 2>();
      __syncthreads();  // this slice is whole, and nobody reads the one before any more
      const int ahead = slice + STAGES - 1;
      if (ahead < slices) fetch(shared + (ahead % STAGES) * STAGE_BYTES, left, row0, rows, right, col0, columns, pitch, std::size_t(ahead) * SLICE);
      close_slice();
      std::int8_t *lines = shared + (slice % STAGES) * STAGE_BYTES;
#pragma unroll
      for (int deep = 0; deep < 2; deep++) {
        std::uint32_t a[MT][4], b[NT][2];
        const int matrix = lane >> 3, of = lane & 7;
#pragma unroll
        for (int m = 0; m < MT; m++) load_matrices(a[m], chunk_of(lines, warp_row + m * 16 + (matrix & 1) * 8 + of, 2 * deep + (matrix >> 1)));
#pragma unroll
        for (int c = 0; c < NT; c += 2) {
          std::uint32_t r[4];
          load_matrices(r, chunk_of(lines, TILE_ROWS + warp_column + c * 8 + (matrix >> 1) * 8 + of, 2 * deep + (matrix & 1)));
          b[c][0] = r[0], b[c][1] = r[1], b[c + 1][0] = r[2], b[c + 1][1] = r[3];
        }
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
          for (int c = 0; c < NT; c++) multiply_add(sums[m][c], a[m], b[c]);
      }
    }
    await_slices<0>();
    __syncthreads();  // shared memory may be used for the results
  }

  /// Calls use(row in tile, column in tile, sum) for every sum this thread holds.
  template <typename Use>
  __device__ __forceinline__ void each(Use use) const {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int row = (warp / WARPS_ACROSS) * WARP_ROWS + (lane >> 2), column = (warp % WARPS_ACROSS) * WARP_COLUMNS + (lane & 3) * 2;
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int c = 0; c < NT; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) use(row + m * 16 + (i >> 1) * 8, column + c * 8 + (i & 1), sums[m][c][i]);
  }
};

/// `lines` lines of `width` bytes from shared memory to lines of n entries: 16 bytes at a time but at a ragged end.
__device__ __forceinline__ void store_lines(const std::int8_t *tile, int tile_pitch, int lines, int width, std::int8_t *out, std::size_t pitch, std::uint32_t line0,
                                            std::uint32_t line_end, std::uint32_t at0, std::uint32_t n) {
  const int chunks = width / 16;
  for (int i = int(threadIdx.x); i < lines * chunks; i += PRODUCT_THREADS) {
    const int line = i / chunks, in_line = i % chunks * 16;
    const std::uint32_t to = line0 + std::uint32_t(line), at = at0 + std::uint32_t(in_line);
    if (to >= line_end || at >= n) continue;
    const std::int8_t *from = tile + line * tile_pitch + in_line;
    std::int8_t *place = out + to * pitch + at;
    if (at + 16 <= n) *reinterpret_cast<uint4 *>(place) = *reinterpret_cast<const uint4 *>(from);
    else
      for (std::uint32_t b = 0; at + b < n; b++) place[b] = from[b];
  }
}

template <int BN, int STAGES>
__global__ void __launch_bounds__(PRODUCT_THREADS, 1) fill_product(const FillArgs args) {
  GRAVAL_DYNAMIC_SHARED(shared);
  // eight tiles down before one across: their lines meet in the L2 cache
  const std::uint32_t down = (args.row_end - args.row_begin + TILE_ROWS - 1) / TILE_ROWS, across = (args.n + BN - 1) / BN;
  const std::uint32_t group = blockIdx.x / (8 * across), in_group = blockIdx.x % (8 * across);
  const std::uint32_t high = down - 8 * group < 8 ? down - 8 * group : 8;
  const std::uint32_t row0 = args.row_begin + (8 * group + in_group % high) * TILE_ROWS, col0 = in_group / high * BN;
  Tile<BN, STAGES> tile;
  tile.run(shared, args.left, row0, args.row_end, args.right, col0, args.n, args.pitch);
  tile.each([&](int row, int column, std::int32_t sum) {
    shared[row * (BN + 16) + column] = q(sum, fill_tweak(args.block, row0 + std::uint32_t(row), col0 + std::uint32_t(column)));
  });
  __syncthreads();
  store_lines(shared, BN + 16, TILE_ROWS, BN, args.out, args.pitch, row0, args.row_end, col0, args.n);
}

/// Column tiles are neighbours in the grid: those that share rows of the block run together, so that memory is read for only one of them.
template <int BN, int STAGES>
__global__ void __launch_bounds__(PRODUCT_THREADS, BN <= 128 ? 2 : 1) walk_product(const WalkArgs args) {
  GRAVAL_DYNAMIC_SHARED(shared);
  const std::uint32_t row0 = blockIdx.y * TILE_ROWS, col0 = blockIdx.x * BN;
  Tile<BN, STAGES> tile;
  tile.run(shared, args.block, row0, args.n, args.x, col0, args.k, args.pitch);
  constexpr int PITCH = TILE_ROWS + 16;
  tile.each([&](int row, int column, std::int32_t sum) {
    shared[column * PITCH + row] = q(sum, walk_tweak(args.step, row0 + std::uint32_t(row), col0 + std::uint32_t(column)));
  });
  __syncthreads();
  store_lines(shared, PITCH, BN, TILE_ROWS, args.next, args.pitch, col0, args.k, row0, args.n);
}

}  // namespace device
}  // namespace graval
