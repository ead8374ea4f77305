// Rates of a card, from its own copy engine and NVIDIA's library: what the proof's times are held against.
#include "device_bench.hpp"

#include <dlfcn.h>
#include <library_types.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>

#include "cuda_check.cuh"
#include "hashing.cuh"

namespace graval {
namespace {

constexpr double NONE = NAN;

double milliseconds_of(int rounds, cudaStream_t stream, const std::function<void()> &work) {
  work();  // warm
  Event from(cudaEventDefault), to(cudaEventDefault);
  from.record(stream);
  for (int i = 0; i < rounds; i++) work();
  to.record(stream);
  GRAVAL_CHECK(cudaEventSynchronize(to));
  float took = 0;
  GRAVAL_CHECK(cudaEventElapsedTime(&took, from, to));
  return double(took) / rounds;
}

/// GB/s that a copy within the memory reads and writes together.
double copy_rate() {
  const std::size_t bytes = std::size_t(1) << 30;
  const DeviceBuffer<std::int8_t> from(bytes), to(bytes);
  const Stream stream;
  const double ms = milliseconds_of(10, stream, [&] { GRAVAL_CHECK(cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice, stream)); });
  return 2.0 * double(bytes) / ms / 1e6;
}

/// Microseconds to bring one block over from page-locked host memory.
double host_block_microseconds(std::size_t bytes) {
  const DeviceBuffer<std::int8_t> to(bytes);
  const PinnedBuffer<std::int8_t> from(bytes);
  std::memset(from.get(), 1, bytes);
  const Stream stream;
  return 1e3 * milliseconds_of(10, stream, [&] { GRAVAL_CHECK(cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyHostToDevice, stream)); });
}

/// TOPS of cublasGemmEx, int8 in and int32 out, n x n x n on random entries; NaN where the library is not installed.
double library_rate(std::uint32_t n) {
  void *library = nullptr;
  for (const char *name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so"})
    if (!library) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library || n % 16 != 0) return NONE;
  using Create = int (*)(void **);
  using Destroy = int (*)(void *);
  using SetStream = int (*)(void *, cudaStream_t);
  using GemmEx = int (*)(void *, int, int, int, int, int, const void *, const void *, cudaDataType, int, const void *, cudaDataType, int, const void *, void *,
                         cudaDataType, int, int, int);
  const auto create = reinterpret_cast<Create>(dlsym(library, "cublasCreate_v2"));
  const auto destroy = reinterpret_cast<Destroy>(dlsym(library, "cublasDestroy_v2"));
  const auto set_stream = reinterpret_cast<SetStream>(dlsym(library, "cublasSetStream_v2"));
  const auto gemm = reinterpret_cast<GemmEx>(dlsym(library, "cublasGemmEx"));
  void *handle = nullptr;
  if (!create || !destroy || !set_stream || !gemm || create(&handle) != 0) return NONE;
  const std::unique_ptr<void, Destroy> release(handle, destroy);
  const std::size_t entries = std::size_t(n) * n;
  const DeviceBuffer<std::int8_t> a(entries), b(entries);
  const DeviceBuffer<std::int32_t> c(entries);
  const Stream stream;
  device::PrgKey key{{1, 2, 3, 4, 5, 6, 7, 8}};
  for (const DeviceBuffer<std::int8_t> *matrix : {&a, &b}) {
    launch(device::draw_lines, unsigned(entries / 64 / 256 + 1), 256, 0, stream, key, 0, entries, n, n, matrix->get());
    key.word[0]++;
  }
  const std::int32_t one = 1, zero = 0;
  const int size = int(n), transposed = 1, plain = 0, compute_32i = 72, any_algorithm = -1;
  bool works = set_stream(handle, stream) == 0;
  const double ms = milliseconds_of(5, stream, [&] {
    works = works && gemm(handle, transposed, plain, size, size, size, &one, a.get(), CUDA_R_8I, size, b.get(), CUDA_R_8I, size, &zero, c.get(), CUDA_R_32I, size,
                          compute_32i, any_algorithm) == 0;
  });
  return works ? 2.0 * std::pow(double(n), 3) / ms / 1e9 : NONE;
}

/// The driver's version from its management library, which comes with it; else the newest CUDA it runs.
std::string driver_version() {
  if (void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    const auto start = reinterpret_cast<int (*)()>(dlsym(library, "nvmlInit_v2"));
    const auto stop = reinterpret_cast<int (*)()>(dlsym(library, "nvmlShutdown"));
    const auto version = reinterpret_cast<int (*)(char *, unsigned)>(dlsym(library, "nvmlSystemGetDriverVersion"));
    char text[80] = "";
    if (start && stop && version && start() == 0) {
      const bool told = version(text, sizeof text) == 0;
      stop();
      if (told) return text;
    }
  }
  int cuda = 0;
  GRAVAL_CHECK(cudaDriverGetVersion(&cuda));
  return "CUDA " + std::to_string(cuda / 1000) + "." + std::to_string(cuda % 1000 / 10);
}

}  // namespace

graval_status measure_rates(std::uint32_t device, std::uint64_t block_bytes, DeviceRates &out) noexcept {
  try {
    GRAVAL_CHECK(cudaSetDevice(int(device)));
    out.driver = driver_version();
    out.copy_gbps = copy_rate();
    out.host_block_us = host_block_microseconds(block_bytes);
    out.library_tops = library_rate(8192);
    std::size_t free_bytes = 0, total_bytes = 0;
    GRAVAL_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
    out.free_bytes = free_bytes;
    return GRAVAL_OK;
  } catch (const std::bad_alloc &) {
    return GRAVAL_OUT_OF_MEMORY;
  } catch (const NoDevice &) {
    return GRAVAL_NO_DEVICE;
  } catch (...) {
    return GRAVAL_DEVICE_FAULT;
  }
}

}  // namespace graval
