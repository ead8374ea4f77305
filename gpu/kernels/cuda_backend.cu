// A prover's device: all blocks in its memory, two streams. `product` multiplies; `hashing` hashes what is finished beside it.
//
// Fill: a block is made in panels of rows; the rows of one are hashed while the next is multiplied. Only a root comes to the host,
// because it names the next partner. Walk: the order of the blocks is fixed, so steps are launched back to back and wait for no
// host; they write around a ring of x, and one half of it is hashed while the other is walked. Check-points go to page-locked host
// memory; openings replay from there.
#include <algorithm>
#include <cstring>

#include "backend.hpp"
#include "cuda_check.cuh"
#include "hashes.hpp"
#include "hashing.cuh"
#include "product.cuh"

namespace graval {
namespace {

using device::HashWords;

constexpr std::size_t HALF_RING_BYTES = 160u << 20, CHECKPOINT_BYTES = std::size_t(1) << 30;

/// Sizes that follow from a profile.
struct Layout {
  explicit Layout(const graval_profile &p) {
    pitch = (std::size_t(p.n) + 63) / 64 * 64;
    block_stride = pitch * p.n;
    x_stride = pitch * p.k;
    chunk = std::uint32_t(std::clamp<std::size_t>(HALF_RING_BYTES / x_stride, 1, 32));
    const std::size_t kept = std::max<std::size_t>(1, CHECKPOINT_BYTES / x_stride);
    interval = std::uint32_t((p.steps / kept / chunk + 1) * chunk);
    checkpoints = p.steps / interval + 1;
    panel = p.n >= 8192 ? p.n / 4 : p.n;
    leaves = std::max<std::size_t>(p.n, std::size_t(chunk) * p.k);
  }
  std::uint64_t device_bytes(const graval_profile &p) const {
    return block_stride * p.blocks + 2ull * chunk * x_stride + 64ull * leaves + 32ull * (p.steps + 1ull);
  }
  std::size_t pitch, block_stride, x_stride, leaves;
  std::uint32_t chunk;     // x in half a ring, which are hashed together
  std::uint32_t interval;  // steps between check-points, whole chunks
  std::uint32_t checkpoints, panel;
};

unsigned grid_of(std::uint64_t items, unsigned threads) { return unsigned((items + threads - 1) / threads); }

device::PrgKey key_of(const std::uint8_t *bytes) {
  device::PrgKey key;
  for (int i = 0; i < 8; i++)
    key.word[i] = std::uint32_t(bytes[4 * i]) | std::uint32_t(bytes[4 * i + 1]) << 8 | std::uint32_t(bytes[4 * i + 2]) << 16 | std::uint32_t(bytes[4 * i + 3]) << 24;
  return key;
}

using FillKernel = void (*)(device::FillArgs);
using WalkKernel = void (*)(device::WalkArgs);

/// Which instance of a product runs here: width of its tile, slices in flight, shared memory.
template <typename Kernel>
struct Chosen {
  Kernel kernel;
  int columns, stages;
  std::size_t shared_bytes() const { return device::product_shared_bytes(columns, stages); }
};

/// Shared memory of sm_75 holds two slices; later cards hold 96 KiB of them, so narrow tiles keep as many bytes on their way as wide ones.
Chosen<FillKernel> choose_fill(bool deep) { return deep ? Chosen<FillKernel>{device::fill_product<256, 4>, 256, 4} : Chosen<FillKernel>{device::fill_product<256, 2>, 256, 2}; }

/// The widest tile (it brings x over least often) that k fills to three quarters and that gives three processors of four some work.
Chosen<WalkKernel> choose_walk(const graval_profile &p, unsigned processors, bool deep) {
  const std::uint64_t down = grid_of(p.n, device::TILE_ROWS);
  const auto suits = [&](unsigned columns) {
    const std::uint64_t across = grid_of(p.k, columns);
    return 4ull * p.k >= 3 * across * columns && 4 * down * across >= 3ull * processors;
  };
  if (suits(256)) return deep ? Chosen<WalkKernel>{device::walk_product<256, 4>, 256, 4} : Chosen<WalkKernel>{device::walk_product<256, 2>, 256, 2};
  if (suits(128)) return deep ? Chosen<WalkKernel>{device::walk_product<128, 6>, 128, 6} : Chosen<WalkKernel>{device::walk_product<128, 2>, 128, 2};
  return deep ? Chosen<WalkKernel>{device::walk_product<64, 8>, 64, 8} : Chosen<WalkKernel>{device::walk_product<64, 2>, 64, 2};
}

int attribute_of(int device, cudaDeviceAttr attribute) {
  int value = 0;
  GRAVAL_CHECK(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

/// True where 96 KiB of slices fit (sm_80 and later).
bool has_deep_shared_memory(int device) {
  return std::size_t(attribute_of(device, cudaDevAttrMaxSharedMemoryPerBlockOptin)) >= device::product_shared_bytes(256, 4) + 1024;
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(const graval_profile &profile, const std::uint8_t *seed, int device)
      : p_(profile), layout_(p_), device_(select(device)), key_(key_of(seed)), deep_(has_deep_shared_memory(device)), fill_(choose_fill(deep_)),
        walk_(choose_walk(p_, unsigned(attribute_of(device, cudaDevAttrMultiProcessorCount)), deep_)), blocks_(layout_.block_stride * p_.blocks),
        ring_(layout_.x_stride * 2 * layout_.chunk), leaves_(layout_.leaves), above_(layout_.leaves), trace_(p_.steps + 1ull),
        checkpoints_(layout_.x_stride * layout_.checkpoints), root_(1) {
    GRAVAL_CHECK(cudaFuncSetAttribute(fill_.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(fill_.shared_bytes())));
    GRAVAL_CHECK(cudaFuncSetAttribute(walk_.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(walk_.shared_bytes())));
    GRAVAL_CHECK(cudaDeviceSynchronize());
  }

  void draw_block(std::uint32_t i) override {
    select(device_);
    const std::uint64_t entries = std::uint64_t(p_.n) * p_.n;
    draw(key_, i * entries, entries, block(i));
    panel_done_.record(product_);
    panel_done_.hold(hashing_);
    hash_rows(i, 0, p_.n);
  }

  void multiply(std::uint32_t i, std::uint32_t partner) override {
    select(device_);
    for (std::uint32_t row = 0; row < p_.n; row += layout_.panel) {
      const std::uint32_t end = std::min(p_.n, row + layout_.panel);
      const device::FillArgs args{block(i - 1), block(partner), block(i), layout_.pitch, p_.n, i, row, end};
      const unsigned tiles = grid_of(end - row, device::TILE_ROWS) * grid_of(p_.n, unsigned(fill_.columns));
      launch(fill_.kernel, tiles, device::PRODUCT_THREADS, fill_.shared_bytes(), product_, args);
      panel_done_.record(product_);
      panel_done_.hold(hashing_);
      hash_rows(i, row, end);
    }
  }

  /// Of the block made last: its leaves are in leaves_.
  Hash block_root(std::uint32_t) override {
    const HashWords *root = climb(p_.n, 1);
    GRAVAL_CHECK(cudaMemcpyAsync(root_.get(), root, sizeof(HashWords), cudaMemcpyDeviceToHost, hashing_));
    hashing_.wait();
    Hash out;
    std::memcpy(out.data(), root_.get(), 32);
    return out;
  }

  void block_leaves(std::uint32_t i, std::vector<Hash> &out) override {
    select(device_);
    out.resize(p_.n);
    hash_rows(i, 0, p_.n);
    fetch(out.data(), leaves_.get(), 32ull * p_.n, hashing_);
  }

  void read_row(std::uint32_t i, std::uint32_t row, std::int8_t *out) override { fetch(out, block(i) + row * layout_.pitch, p_.n, product_); }

  void walk(const std::uint8_t *key, std::vector<Hash> &leaves) override {
    select(device_);
    draw(key_of(key), 0, std::uint64_t(p_.n) * p_.k, x(0));
    for (std::uint32_t t = 0; t <= p_.steps; t++) {
      const std::uint32_t half = t / layout_.chunk % 2, first = t / layout_.chunk * layout_.chunk;
      if (t + 1 == first + layout_.chunk || t == p_.steps) {  // x_first … x_t are made, or will be before hashing_ goes on
        half_made_.record(product_);
        half_made_.hold(hashing_);
        if (first % layout_.interval == 0) GRAVAL_CHECK(cudaMemcpyAsync(checkpoint(first), x(first), layout_.x_stride, cudaMemcpyDeviceToHost, hashing_));
        hash_steps(first, t + 1 - first);
        half_hashed_[half].record(hashing_);
      }
      if (t == p_.steps) break;
      if ((t + 1) % layout_.chunk == 0) half_hashed_[1 - half].hold(product_);  // what the other half held before is written over
      launch_step(t);
    }
    leaves.resize(p_.steps + std::size_t(1));
    fetch(leaves.data(), trace_.get(), 32ull * leaves.size(), hashing_);
  }

  void visit_trace(const std::vector<TraceRequest> &requests, const std::function<void(const TraceRequest &, const TraceView &)> &visit) override {
    select(device_);
    std::vector<std::int8_t> entries(p_.n);
    std::vector<Hash> column_leaves(p_.k);
    std::uint32_t at = 0, hashed = 0;  // x_at is in its place
    bool loaded = false;
    for (const TraceRequest &request : requests) {
      const std::uint32_t point = request.step / layout_.interval * layout_.interval;
      if (!loaded || point > at) {
        GRAVAL_CHECK(cudaMemcpyAsync(x(point), checkpoint(point), layout_.x_stride, cudaMemcpyHostToDevice, product_));
        at = point;
      }
      while (at < request.step) launch_step(at++);
      if (!loaded || hashed != at) {
        product_.wait();
        launch_lines(3, at, p_.k, 0, p_.k, x(at));
        fetch(column_leaves.data(), leaves_.get(), 32ull * p_.k, hashing_);
        hashed = at;
      }
      loaded = true;
      fetch(entries.data(), x(at) + request.column * layout_.pitch, p_.n, product_);
      visit(request, TraceView{entries.data(), column_leaves});
    }
  }

 private:
  static int select(int device) {
    GRAVAL_CHECK(cudaSetDevice(device));
    return device;
  }
  std::int8_t *block(std::uint32_t i) { return blocks_.get() + i * layout_.block_stride; }
  std::int8_t *x(std::uint32_t t) { return ring_.get() + t % (2 * layout_.chunk) * layout_.x_stride; }
  std::int8_t *checkpoint(std::uint32_t t) { return checkpoints_.get() + t / layout_.interval * layout_.x_stride; }

  void draw(const device::PrgKey &key, std::uint64_t offset, std::uint64_t count, std::int8_t *out) {
    launch(device::draw_lines, grid_of(count / 64 + 2, 256), 256, 0, product_, key, offset, count, p_.n, layout_.pitch, out);
  }

  void launch_lines(std::uint32_t tag, std::uint32_t index, std::uint32_t per, std::uint32_t first, std::uint32_t count, const std::int8_t *lines, std::uint32_t at = 0) {
    launch(device::hash_lines, grid_of(count, 128), 128, 0, hashing_, tag, index, per, first, count, lines, layout_.pitch, p_.n, leaves_.get() + at);
  }
  void hash_rows(std::uint32_t i, std::uint32_t row, std::uint32_t end) { launch_lines(0, i, p_.n, row, end - row, block(i) + row * layout_.pitch, row); }

  /// The roots of `trees` trees whose `count` leaves each lie in leaves_; one after the other.
  const HashWords *climb(std::uint32_t count, std::uint32_t trees) {
    HashWords *from = leaves_.get(), *to = above_.get();
    for (; count > 1; count = (count + 1) / 2, std::swap(from, to)) {
      launch(device::merkle_level, grid_of(std::uint64_t((count + 1) / 2) * trees, 128), 128, 0, hashing_, from, count, trees, to);
    }
    return from;
  }

  /// Trace leaves of x_t … x_{t+count-1}, which lie one after the other.
  void hash_steps(std::uint32_t t, std::uint32_t count) {
    launch_lines(3, t, p_.k, 0, count * p_.k, x(t));
    const HashWords *roots = climb(p_.k, count);
    launch(device::hash_trace, grid_of(count, 32), 32, 0, hashing_, t, count, roots, trace_.get() + t);
  }

  void launch_step(std::uint32_t t) {
    const device::WalkArgs args{block(walk_block(t, p_.blocks)), x(t), x(t + 1), layout_.pitch, p_.n, p_.k, t + 1};
    const dim3 grid(grid_of(p_.k, unsigned(walk_.columns)), grid_of(p_.n, device::TILE_ROWS));
    launch(walk_.kernel, grid, device::PRODUCT_THREADS, walk_.shared_bytes(), product_, args);
  }

  void fetch(void *to, const void *from, std::size_t bytes, const Stream &stream) {
    GRAVAL_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream));
    stream.wait();
  }

  const graval_profile p_;
  const Layout layout_;
  const int device_;
  const device::PrgKey key_;
  const bool deep_;
  const Chosen<FillKernel> fill_;
  const Chosen<WalkKernel> walk_;
  DeviceBuffer<std::int8_t> blocks_, ring_;
  DeviceBuffer<HashWords> leaves_, above_, trace_;
  PinnedBuffer<std::int8_t> checkpoints_;
  PinnedBuffer<HashWords> root_;
  Stream product_{true}, hashing_;
  Event panel_done_, half_made_, half_hashed_[2];
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(const graval_profile &profile, const std::uint8_t *seed, std::uint32_t device) {
  int count = 0;
  GRAVAL_CHECK(cudaGetDeviceCount(&count));
  if (device >= std::uint32_t(count)) throw NoDevice{};
  return std::make_unique<CudaBackend>(profile, seed, int(device));
}

std::uint64_t cuda_backend_bytes(const graval_profile &profile) noexcept { return Layout(profile).device_bytes(profile); }

}  // namespace graval
