#pragma once
// Runs the CUDA sources on a CPU, for tests on machines without a GPU: every thread of a block is a fiber, warp instructions meet
// where all 32 lanes arrive, shared and device memory are host memory (so a sanitizer sees reads outside). Streams are queues
// that run late on purpose, as far as events allow: an order the sources forgot to ask for shows as a wrong answer. It follows the
// PTX manual's fragment layouts; it says nothing about speed, and no more than that manual about the hardware.
#include <csetjmp>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __constant__ static const

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint4 { std::uint32_t x, y, z, w; };

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

[[noreturn]] inline void die(const char *why) {
  std::fprintf(stderr, "emulator: %s\n", why);
  std::abort();
}

// ---- one thread block ----
struct Copy { std::int8_t *to; std::int8_t bytes[16]; };
struct Lane {
  ucontext_t context;
  std::jmp_buf resume;
  bool started = false, done = false;
  std::deque<std::vector<Copy>> groups{1};  // the open group of copies is the last
};
struct Meeting {
  unsigned arrived = 0;
  std::uint64_t generation = 0;
  void *brought[32] = {};
};

struct Block {
  std::vector<Lane> lanes;
  std::vector<Meeting> warps;
  Meeting all;
  ucontext_t scheduler;
  std::jmp_buf resume;
  std::size_t current = 0;
  std::uint64_t progress = 0;
  std::function<void()> body;
  std::vector<std::int8_t> shared;
};
inline Block *block = nullptr;

#if defined(__SANITIZE_ADDRESS__)
// two system calls a switch, but a sanitizer follows it
inline void pause() { swapcontext(&block->lanes[block->current].context, &block->scheduler); }
inline void resume(Lane &lane) { swapcontext(&block->scheduler, &lane.context); }
#else
inline void pause() {
  if (_setjmp(block->lanes[block->current].resume) == 0) _longjmp(block->resume, 1);
}
inline void resume(Lane &lane) {
  if (_setjmp(block->resume) != 0) return;
  if (lane.started) _longjmp(lane.resume, 1);
  lane.started = true;
  setcontext(&lane.context);
}
#endif

inline void enter() {
  block->body();
  block->lanes[block->current].done = true;
  block->progress++;
  pause();
}

/// The last of a warp to arrive does the work of all.
template <typename Work>
void meet(void *mine, Work work) {
  Meeting &warp = block->warps[block->current / 32];
  const std::uint64_t generation = warp.generation;
  warp.brought[block->current % 32] = mine;
  block->progress++;
  if (++warp.arrived == 32) {
    work(warp.brought);
    warp.arrived = 0;
    warp.generation++;
    return;
  }
  while (warp.generation == generation) pause();
}

inline void run_block(unsigned threads, std::size_t shared_bytes, const std::function<void()> &body) {
  Block here;
  block = &here;
  here.lanes.resize(threads);
  here.warps.resize((threads + 31) / 32);
  here.body = body;
  // junk, as on a device: nothing may count on zeros
  here.shared.assign(shared_bytes + 128, 0x55);
  constexpr std::size_t STACK = 128 * 1024;
  static std::vector<std::unique_ptr<char[]>> stacks;
  while (stacks.size() < threads) stacks.emplace_back(new char[STACK]);
  for (std::size_t i = 0; i < threads; i++) {
    Lane &lane = here.lanes[i];
    getcontext(&lane.context);
    lane.context.uc_stack.ss_sp = stacks[i].get();
    lane.context.uc_stack.ss_size = STACK;
    lane.context.uc_link = nullptr;
    makecontext(&lane.context, enter, 0);
  }
  for (std::size_t left = threads; left > 0;) {
    const std::uint64_t before = here.progress;
    left = 0;
    for (here.current = 0; here.current < threads; here.current++) {
      if (here.lanes[here.current].done) continue;
      threadIdx = dim3(unsigned(here.current));
      resume(here.lanes[here.current]);
      if (!here.lanes[here.current].done) left++;
    }
    if (left > 0 && here.progress == before) die("a block waits for threads that never come");
  }
  block = nullptr;
}

inline std::int8_t *dynamic_shared() {
  const auto at = reinterpret_cast<std::uintptr_t>(block->shared.data());
  return block->shared.data() + (128 - at % 128) % 128;
}

// ---- streams ----
struct StreamState {
  std::deque<std::function<void()>> queue;
  std::uint64_t queued = 0, run = 0;
  bool eager = false, running = false;
};
struct EventState { StreamState *stream = nullptr; std::uint64_t position = 0; };

/// Bit i: the i-th stream made runs at once; the others only when somebody waits.
inline unsigned eager_streams = 0;
inline unsigned streams_made = 0;
inline std::uint64_t allocations_left = ~std::uint64_t(0);

inline void run_until(StreamState &stream, std::uint64_t position) {
  while (stream.run < position) {
    if (stream.running) die("streams wait for one another");
    const std::function<void()> work = std::move(stream.queue.front());
    stream.queue.pop_front();
    stream.running = true;
    work();
    stream.running = false;
    stream.run++;
  }
}
inline void enqueue(StreamState *stream, std::function<void()> work) {
  stream->queue.push_back(std::move(work));
  stream->queued++;
  if (stream->eager) run_until(*stream, stream->queued);
}

}  // namespace emulator

// ---- what kernels use ----
inline void __syncthreads() {
  emulator::Block &here = *emulator::block;
  const std::uint64_t generation = here.all.generation;
  here.progress++;
  if (++here.all.arrived == here.lanes.size()) {
    here.all.arrived = 0;
    here.all.generation++;
    return;
  }
  while (here.all.generation == generation) emulator::pause();
}
inline std::uint32_t __funnelshift_r(std::uint32_t low, std::uint32_t high, int by) { return std::uint32_t((std::uint64_t(high) << 32 | low) >> (by & 31)); }
inline std::uint32_t __byte_perm(std::uint32_t x, std::uint32_t y, std::uint32_t selector) {
  const std::uint64_t both = std::uint64_t(y) << 32 | x;
  std::uint32_t out = 0;
  for (int i = 0; i < 4; i++) out |= std::uint32_t((both >> (8 * ((selector >> (4 * i)) & 7))) & 0xff) << (8 * i);
  return out;
}
inline uint4 make_uint4(std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t w) { return {x, y, z, w}; }
#define GRAVAL_DYNAMIC_SHARED(name) std::int8_t *const name = ::emulator::dynamic_shared()

// ---- twins of kernels/tensor.cuh ----
namespace graval {
namespace device {

inline void copy_chunk(std::int8_t *to, const std::int8_t *from, bool valid) {
  if (reinterpret_cast<std::uintptr_t>(to) % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0) emulator::die("a 16-byte copy is not aligned");
  emulator::Copy copy{to, {}};
  if (valid) std::memcpy(copy.bytes, from, 16);
  emulator::block->lanes[emulator::block->current].groups.back().push_back(copy);
}
inline void close_slice() { emulator::block->lanes[emulator::block->current].groups.emplace_back(); }
template <int pending>
void await_slices() {
  auto &groups = emulator::block->lanes[emulator::block->current].groups;
  for (; groups.size() > std::size_t(pending) + 1; groups.pop_front())
    for (const emulator::Copy &copy : groups.front()) std::memcpy(copy.to, copy.bytes, 16);
}
inline void load_matrices(std::uint32_t r[4], const std::int8_t *line) {
  struct { std::uint32_t *r; const std::int8_t *line; } mine{r, line};
  using Mine = decltype(mine);
  emulator::meet(&mine, [](void **all) {
    for (int lane = 0; lane < 32; lane++)
      for (int matrix = 0; matrix < 4; matrix++)
        std::memcpy(static_cast<Mine *>(all[lane])->r + matrix, static_cast<Mine *>(all[8 * matrix + lane / 4])->line + lane % 4 * 4, 4);
  });
}
inline void multiply_add(std::int32_t c[4], const std::uint32_t a[4], const std::uint32_t b[2]) {
  struct { std::int32_t *c; const std::uint32_t *a, *b; } mine{c, a, b};
  using Mine = decltype(mine);
  emulator::meet(&mine, [](void **all) {
    std::int8_t left[16][32], right[8][32];
    for (int lane = 0; lane < 32; lane++) {
      const Mine &of = *static_cast<Mine *>(all[lane]);
      const int group = lane / 4, deep = lane % 4 * 4;
      for (int i = 0; i < 4; i++) std::memcpy(&left[group + (i & 1) * 8][deep + (i >> 1) * 16], of.a + i, 4);
      for (int i = 0; i < 2; i++) std::memcpy(&right[group][deep + i * 16], of.b + i, 4);
    }
    for (int lane = 0; lane < 32; lane++)
      for (int i = 0; i < 4; i++) {
        const std::int8_t *row = left[lane / 4 + (i >> 1) * 8], *column = right[lane % 4 * 2 + (i & 1)];
        std::int32_t sum = 0;
        for (int m = 0; m < 32; m++) sum += std::int32_t(row[m]) * column[m];
        static_cast<Mine *>(all[lane])->c[i] += sum;
      }
  });
}

}  // namespace device

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 threads, std::size_t shared_bytes, emulator::StreamState *stream, const Arguments &...arguments) {
  emulator::enqueue(stream, [=] {
    gridDim = grid;
    blockDim = threads;
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        blockIdx = dim3(x, y);
        emulator::run_block(threads.x, shared_bytes, [=] { kernel(static_cast<Parameters>(arguments)...); });
      }
  });
}

}  // namespace graval

// ---- the runtime's interface, as far as the sources use it ----
enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation, cudaErrorNoDevice, cudaErrorInsufficientDriver, cudaErrorInvalidDevice };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin, cudaDevAttrMultiProcessorCount };
using cudaStream_t = emulator::StreamState *;
using cudaEvent_t = emulator::EventState *;

/// The card that is emulated: little shared memory chooses the kernels of sm_75, many processors narrow tiles.
inline int emulated_shared_bytes = 227 * 1024, emulated_processors = 1;

inline const char *cudaGetErrorString(cudaError_t) { return "emulated"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int *count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
  return *value = attribute == cudaDevAttrMultiProcessorCount ? emulated_processors : emulated_shared_bytes, cudaSuccess;
}
inline cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, cudaSuccess; }
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, int, int bytes) { return bytes <= emulated_shared_bytes ? cudaSuccess : cudaErrorMemoryAllocation; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaMalloc(void **out, std::size_t bytes) {
  if (emulator::allocations_left == 0) return cudaErrorMemoryAllocation;
  emulator::allocations_left--;
  return *out = std::aligned_alloc(256, (bytes + 255) / 256 * 256), *out ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaMallocHost(void **out, std::size_t bytes) { return cudaMalloc(out, bytes); }
inline void cudaFree(void *data) { std::free(data); }
inline void cudaFreeHost(void *data) { std::free(data); }
inline cudaError_t cudaMemset(void *to, int value, std::size_t bytes) { return std::memset(to, value, bytes), cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void *to, const void *from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  return emulator::enqueue(stream, [=] { std::memcpy(to, from, bytes); }), cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned, int) {
  *out = new emulator::StreamState;
  (*out)->eager = (emulator::eager_streams >> (emulator::streams_made++ % 2)) & 1;
  return cudaSuccess;
}
inline void cudaStreamDestroy(cudaStream_t stream) { delete stream; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return emulator::run_until(*stream, stream->queued), cudaSuccess; }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) { return *out = new emulator::EventState, cudaSuccess; }
inline void cudaEventDestroy(cudaEvent_t event) { delete event; }
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return *event = {stream, stream->queued}, cudaSuccess; }
inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event->stream && event->stream != stream) emulator::enqueue(stream, [at = *event] { emulator::run_until(*at.stream, at.position); });
  return cudaSuccess;
}
