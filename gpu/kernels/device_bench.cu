// What a card does, and what its own copy engine and NVIDIA's library do on it in the same run.
#include "device_bench.hpp"

#include <dlfcn.h>
#include <library_types.h>

#include <chrono>
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "../tools/json.hpp"
#include "../tools/scatter.hpp"
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

/// Milliseconds to bring one block over from page-locked host memory.
double host_block_milliseconds(std::size_t bytes) {
  const DeviceBuffer<std::int8_t> to(bytes);
  const PinnedBuffer<std::int8_t> from(bytes);
  std::memset(from.get(), 1, bytes);
  const Stream stream;
  return milliseconds_of(10, stream, [&] { GRAVAL_CHECK(cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyHostToDevice, stream)); });
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

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Destroy {
  void operator()(graval_prover *prover) const { graval_destroy(prover); }
};

graval_status measure(std::uint32_t index, graval_profile p, bool calibrate, std::string &report) {
  graval_device_info info{};
  if (const graval_status status = graval_device(index, &info)) return status;
  GRAVAL_CHECK(cudaSetDevice(int(index)));
  int driver = 0, runtime = 0;
  GRAVAL_CHECK(cudaDriverGetVersion(&driver));
  GRAVAL_CHECK(cudaRuntimeGetVersion(&runtime));
  std::size_t free_bytes = 0, total_bytes = 0;
  GRAVAL_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  if (p.n == 0) p.n = total_bytes >= (70ull << 30) ? 16384 : total_bytes >= (12ull << 30) ? 8192 : 4096;
  if (p.k == 0) p.k = 256;
  if (p.steps == 0) p.steps = 20000;
  const std::uint64_t block_bytes = std::uint64_t(p.n) * p.n;
  if (p.blocks == 0) p.blocks = std::uint32_t((total_bytes / 100 * 95 + block_bytes - 1) / block_bytes);
  std::uint64_t needed = 0;
  if (const graval_status status = graval_prover_bytes(&p, std::int32_t(index), &needed)) return status;

  const double copy = copy_rate(), host_ms = host_block_milliseconds(block_bytes), library = library_rate(p.n < 8192 ? p.n : 8192);
  std::uint8_t seed[32] = {1}, nonce2[32] = {2}, root[32], digest[32], trace_root[32];
  graval_prover *raw = nullptr;
  if (const graval_status status = graval_begin(&p, seed, std::int32_t(index), &raw)) return status;
  const std::unique_ptr<graval_prover, Destroy> prover(raw);
  const double began = now();
  if (const graval_status status = graval_commit(raw, root)) return status;
  const double filled = now();
  if (const graval_status status = graval_walk(raw, nonce2, digest, trace_root)) return status;
  const double walked = now();
  std::vector<graval_fill_sample> fill;
  std::vector<graval_walk_sample> walk;
  for (std::uint32_t s = 0; s < p.fill_samples; s++) fill.push_back({scatter(3 * s) % p.blocks, scatter(3 * s + 1) % p.n, scatter(3 * s + 2) % p.n});
  for (std::uint32_t s = 0; s < p.walk_samples; s++)
    walk.push_back({s == 0 ? 0 : s == 1 ? p.steps - 1 : scatter(s) % p.steps, scatter(5 * s + 1) % p.n, scatter(5 * s + 2) % p.k});
  std::size_t size = 0;
  if (const graval_status status = graval_open(raw, fill.data(), fill.size(), walk.data(), walk.size(), nullptr, &size)) return status;
  std::vector<std::uint8_t> openings(size);
  if (const graval_status status = graval_open(raw, fill.data(), fill.size(), walk.data(), walk.size(), openings.data(), &size)) return status;
  const double opened = now();
  graval_claim claim{};
  claim.profile = p;
  std::memcpy(claim.seed, seed, 32), std::memcpy(claim.root, root, 32), std::memcpy(claim.nonce2, nonce2, 32);
  std::memcpy(claim.digest, digest, 32), std::memcpy(claim.trace_root, trace_root, 32);
  graval_fault fault = GRAVAL_FAULT_NONE;
  const graval_status verdict = graval_verify(&claim, fill.data(), fill.size(), walk.data(), walk.size(), openings.data(), size, &fault);
  if (verdict != GRAVAL_OK && verdict != GRAVAL_REFUSED) return verdict;

  const double fill_s = filled - began, step_us = (walked - filled) * 1e6 / p.steps, floor_us = double(block_bytes) / copy / 1e3;
  const double fill_tops = 2.0 * std::pow(double(p.n), 3) * (p.blocks > 2 ? p.blocks - 2 : 0) / fill_s / 1e12;
  Json json;
  json.text("bench", "device").text("card", info.name).number("driver", std::uint64_t(driver)).number("runtime", std::uint64_t(runtime))
      .number("memory_bytes", info.memory_bytes).number("n", p.n).number("k", p.k).number("blocks", p.blocks).number("steps", p.steps)
      .number("block_memory_bytes", block_bytes * p.blocks).measure("filled_share", double(block_bytes) * p.blocks / double(info.memory_bytes))
      .number("device_bytes", needed).measure("fill_seconds", fill_s).measure("fill_tops", fill_tops).measure("library_tops", library)
      .measure("fill_share_of_library", fill_tops / library).measure("copy_gb_per_second", copy).measure("walk_seconds", walked - filled)
      .measure("step_us", step_us).measure("step_floor_us", floor_us).measure("step_over_floor", step_us / floor_us)
      .measure("host_block_us", host_ms * 1e3).measure("host_gap", host_ms * 1e3 / step_us).measure("open_seconds", opened - walked)
      .number("openings_bytes", size).flag("verified", verdict == GRAVAL_OK).text("fault", graval_fault_name(fault));
  if (calibrate) {
    // a walk of 15 s, and limits as far above the measurement as the attacks allow (docs/proof.md "Attacks")
    const auto steps = std::uint64_t(std::min(15e6 / step_us, 1048576.0));
    json.raw("profile", Json().number("n", p.n).number("k", p.k).number("blocks", p.blocks).number("steps", steps).number("fillSamples", 128).number("walkSamples", 128)
                            .number("fillLimitMs", std::uint64_t(std::ceil(fill_s * 1500))).number("walkLimitMs", std::uint64_t(std::ceil(double(steps) * step_us * 1.25e-3))).str());
  }
  report = json.str();
  return verdict;
}

}  // namespace

graval_status bench_device(std::uint32_t device, graval_profile profile, bool calibrate, std::string &report) noexcept {
  try {
    return measure(device, profile, calibrate, report);
  } catch (const std::bad_alloc &) {
    return GRAVAL_OUT_OF_MEMORY;
  } catch (const NoDevice &) {
    return GRAVAL_NO_DEVICE;
  } catch (...) {
    return GRAVAL_DEVICE_FAULT;
  }
}

}  // namespace graval
