#pragma once
// The instructions that C++ has no name for: asynchronous copies, ldmatrix, int8 tensor-core products. The emulator of gpu/test has
// twins of these five functions.
#include <cstdint>

namespace graval {
namespace device {

__device__ __forceinline__ std::uint32_t shared_address(const void *p) { return std::uint32_t(__cvta_generic_to_shared(p)); }

/// 16 bytes to shared memory, or zeros. The hint has the L2 cache fetch 128 bytes of the line: the next slice is asked for soon.
__device__ __forceinline__ void copy_chunk(std::int8_t *to, const std::int8_t *from, bool valid) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0));
#else
  *reinterpret_cast<uint4 *>(to) = valid ? *reinterpret_cast<const uint4 *>(from) : make_uint4(0, 0, 0, 0);
#endif
}
__device__ __forceinline__ void close_slice() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;\n" ::);
#endif
}
/// All but the last `pending` slices have arrived for this thread.
template <int pending>
__device__ __forceinline__ void await_slices() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;\n" ::"n"(pending));
#endif
}

__device__ __forceinline__ void load_matrices(std::uint32_t r[4], const std::int8_t *line) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(line)));
}

/// c += a * b over 16 rows, 8 columns, 32 of K.
__device__ __forceinline__ void multiply_add(std::int32_t c[4], const std::uint32_t a[4], const std::uint32_t b[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  // the larger shape is four of these: rows 0-7 are a[0], a[2]; rows 8-15 are a[1], a[3]
#pragma unroll
  for (int half = 0; half < 2; half++)
#pragma unroll
    for (int deep = 0; deep < 2; deep++)
      asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%2}, {%3}, {%0,%1};\n"
                   : "+r"(c[2 * half]), "+r"(c[2 * half + 1])
                   : "r"(a[half + 2 * deep]), "r"(b[deep]));
#endif
}

}  // namespace device
}  // namespace graval
