// A prover's device: all blocks in its memory, two streams. `product` multiplies; `hashing` hashes what is finished beside it.
//
// Fill: a block is made in panels of rows; the rows of one are hashed while the next is multiplied. Only a root comes to the host,
// because it names the next partner. Walk: steps run from a captured graph in chunks, between two rings of x, so that one chunk
// is hashed while the next is walked. Check-points go to page-locked host memory; openings replay from there.
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

constexpr std::size_t RING_BYTES = 160u << 20, CHECKPOINT_BYTES = std::size_t(1) << 30;

/// Sizes that follow from a profile.
struct Layout {
  explicit Layout(const graval_profile &p) {
    pitch = (std::size_t(p.n) + 63) / 64 * 64;
    block_stride = pitch * p.n;
    x_stride = pitch * p.k;
    chunk = std::uint32_t(std::clamp<std::size_t>(RING_BYTES / x_stride, 1, 32));
    chunk = std::min(chunk, p.steps);
    const std::size_t kept = std::max<std::size_t>(1, CHECKPOINT_BYTES / x_stride);
    interval = std::uint32_t((p.steps / kept / chunk + 1) * chunk);
    checkpoints = p.steps / interval + 1;
    panel = p.n >= 8192 ? p.n / 4 : p.n;
    leaves = std::max<std::size_t>(p.n, std::size_t(chunk) * p.k);
  }
  std::uint64_t device_bytes(const graval_profile &p) const {
    const std::uint64_t rings = 2ull * (chunk + 1ull) * (x_stride + 4ull * p.k);
    return block_stride * p.blocks + rings + 64ull * leaves + 36ull * (p.steps + 1ull);
  }
  std::size_t pitch, block_stride, x_stride, leaves;
  std::uint32_t chunk, interval, checkpoints, panel;
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

Chosen<FillKernel> choose_fill(bool deep) { return deep ? Chosen<FillKernel>{device::fill_product<256, 4>, 256, 4} : Chosen<FillKernel>{device::fill_product<256, 2>, 256, 2}; }

Chosen<WalkKernel> choose_walk(std::uint32_t k, bool deep) {
  if (k <= 64) return deep ? Chosen<WalkKernel>{device::walk_product<64, 4>, 64, 4} : Chosen<WalkKernel>{device::walk_product<64, 2>, 64, 2};
  if (k <= 128) return deep ? Chosen<WalkKernel>{device::walk_product<128, 4>, 128, 4} : Chosen<WalkKernel>{device::walk_product<128, 2>, 128, 2};
  return deep ? Chosen<WalkKernel>{device::walk_product<256, 4>, 256, 4} : Chosen<WalkKernel>{device::walk_product<256, 2>, 256, 2};
}

/// True where four slices of the widest tile fit beside one another (sm_80 and later).
bool has_deep_shared_memory(int device) {
  int most = 0;
  GRAVAL_CHECK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return std::size_t(most) >= device::product_shared_bytes(256, 4) + 1024;
}

/// x_t … x_{t+chunk} with their checksums.
struct Ring {
  Ring(const graval_profile &p, const Layout &l) : x(l.x_stride * (l.chunk + 1)), checksums(std::size_t(p.k) * (l.chunk + 1)), base(1) {}
  ~Ring() {
    if (graph) cudaGraphExecDestroy(graph);
  }
  DeviceBuffer<std::int8_t> x;
  DeviceBuffer<std::uint32_t> checksums, base;
  Event walked, hashed;
  cudaGraphExec_t graph = nullptr;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(const graval_profile &profile, const std::uint8_t *seed, int device)
      : p_(profile), layout_(p_), device_(select(device)), key_(key_of(seed)), deep_(has_deep_shared_memory(device)), fill_(choose_fill(deep_)), walk_(choose_walk(p_.k, deep_)),
        blocks_(layout_.block_stride * p_.blocks), ring_a_(p_, layout_), ring_b_(p_, layout_), leaves_(layout_.leaves), above_(layout_.leaves), trace_(p_.steps + 1ull),
        chosen_(p_.steps), checkpoints_(layout_.x_stride * layout_.checkpoints), root_(1) {
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

  void walk(const std::uint8_t *key, std::vector<Hash> &leaves, std::vector<std::uint32_t> &chosen) override {
    select(device_);
    Ring *ring = &ring_a_, *other = &ring_b_;
    draw(key_of(key), 0, std::uint64_t(p_.n) * p_.k, ring->x.get());
    sum_first(*ring);
    for (std::uint32_t t = 0; t < p_.steps; t += layout_.chunk) {
      const std::uint32_t count = std::min(layout_.chunk, p_.steps - t);
      if (t % layout_.interval == 0)
        GRAVAL_CHECK(cudaMemcpyAsync(checkpoint(t / layout_.interval), ring->x.get(), layout_.x_stride, cudaMemcpyDeviceToHost, product_));
      run_steps(*ring, t, count);
      other->hashed.hold(product_);  // its last chunk must be hashed before its first slot is written again
      carry_over(*ring, count, *other);
      ring->walked.record(product_);
      ring->walked.hold(hashing_);
      hash_steps(*ring, t, count);
      ring->hashed.record(hashing_);
      std::swap(ring, other);
    }
    hash_steps(*ring, p_.steps, 1);
    ring->hashed.record(hashing_);
    leaves.resize(p_.steps + std::size_t(1));
    chosen.resize(p_.steps);
    fetch(leaves.data(), trace_.get(), 32ull * leaves.size(), hashing_);
    fetch(chosen.data(), chosen_.get(), 4ull * chosen.size(), product_);
  }

  void visit_trace(const std::vector<TraceRequest> &requests, const std::function<void(const TraceRequest &, const TraceView &)> &visit) override {
    select(device_);
    Ring &ring = ring_a_;
    std::vector<std::uint8_t> checksums(4ull * p_.k);
    std::vector<std::int8_t> entries(p_.n);
    std::vector<Hash> column_leaves(p_.k);
    std::uint32_t from = 0, count = 0, held = ~0u;
    bool loaded = false;
    for (const TraceRequest &request : requests) {
      while (!loaded || request.step > from + count) {
        const std::uint32_t point = request.step / layout_.interval * layout_.interval;
        if (!loaded || point > from) {
          from = point;
          GRAVAL_CHECK(cudaMemcpyAsync(ring.x.get(), checkpoint(point / layout_.interval), layout_.x_stride, cudaMemcpyHostToDevice, product_));
          sum_first(ring);
        } else {
          carry_over(ring, count, ring);
          from += count;
        }
        loaded = true;
        count = std::min(layout_.chunk, p_.steps - from);
        if (count > 0) run_steps(ring, from, count);
        product_.wait();
      }
      const std::uint32_t slot = request.step - from;
      const std::int8_t *x = ring.x.get() + slot * layout_.x_stride;
      if (request.step != held) {
        launch_lines(3, request.step, p_.k, 0, p_.k, x);
        fetch(column_leaves.data(), leaves_.get(), 32ull * p_.k, hashing_);
        fetch(checksums.data(), ring.checksums.get() + std::size_t(slot) * p_.k, checksums.size(), product_);
        held = request.step;
      }
      fetch(entries.data(), x + request.column * layout_.pitch, p_.n, product_);
      visit(request, TraceView{checksums.data(), entries.data(), column_leaves});
    }
  }

 private:
  static int select(int device) {
    GRAVAL_CHECK(cudaSetDevice(device));
    return device;
  }
  std::int8_t *block(std::uint32_t i) { return blocks_.get() + i * layout_.block_stride; }
  std::int8_t *checkpoint(std::uint32_t i) { return checkpoints_.get() + i * layout_.x_stride; }

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

  /// Trace leaves of x_t … x_{t+count-1}, the first `count` slots.
  void hash_steps(Ring &ring, std::uint32_t t, std::uint32_t count) {
    launch_lines(3, t, p_.k, 0, count * p_.k, ring.x.get());
    const HashWords *roots = climb(p_.k, count);
    launch(device::hash_trace, grid_of(count, 32), 32, 0, hashing_, t, count, ring.checksums.get(), p_.k, roots, trace_.get() + t);
  }

  void sum_first(Ring &ring) {
    launch(device::sum_columns, p_.k, 256, 0, product_, ring.x.get(), layout_.pitch, p_.n, ring.checksums.get());
    ring.walked.record(product_);
    ring.walked.hold(hashing_);
  }

  /// `count` steps from slot 0, which holds x_t and u_t.
  void run_steps(Ring &ring, std::uint32_t t, std::uint32_t count) {
    GRAVAL_CHECK(cudaMemsetAsync(ring.checksums.get() + p_.k, 0, 4ull * p_.k * count, product_));
    // from pageable memory: the four bytes are taken before the call returns
    GRAVAL_CHECK(cudaMemcpyAsync(ring.base.get(), &t, sizeof t, cudaMemcpyHostToDevice, product_));
    if (count == layout_.chunk) {
      if (!ring.graph) capture(ring);
      GRAVAL_CHECK(cudaGraphLaunch(ring.graph, product_));
    } else {
      for (std::uint32_t s = 0; s < count; s++) launch_step(ring, s);
    }
  }

  void launch_step(Ring &ring, std::uint32_t slot) {
    std::int8_t *x = ring.x.get() + slot * layout_.x_stride;
    std::uint32_t *checksums = ring.checksums.get() + std::size_t(slot) * p_.k;
    const device::WalkArgs args{blocks_.get(), x, x + layout_.x_stride, layout_.pitch, layout_.block_stride, p_.n, p_.k, p_.blocks, slot,
                                ring.base.get(), checksums, checksums + p_.k, chosen_.get()};
    const dim3 grid(grid_of(p_.n, device::TILE_ROWS), grid_of(p_.k, unsigned(walk_.columns)));
    launch(walk_.kernel, grid, device::PRODUCT_THREADS, walk_.shared_bytes(), product_, args);
  }

  void capture(Ring &ring) {
    cudaGraph_t graph = nullptr;
    GRAVAL_CHECK(cudaStreamBeginCapture(product_, cudaStreamCaptureModeThreadLocal));
    for (std::uint32_t s = 0; s < layout_.chunk; s++) launch_step(ring, s);
    GRAVAL_CHECK(cudaStreamEndCapture(product_, &graph));
    const cudaError_t status = cudaGraphInstantiate(&ring.graph, graph, 0);
    cudaGraphDestroy(graph);
    GRAVAL_CHECK(status);
  }

  /// The x after `count` steps becomes slot 0 of `to`.
  void carry_over(Ring &ring, std::uint32_t count, Ring &to) {
    GRAVAL_CHECK(cudaMemcpyAsync(to.x.get(), ring.x.get() + count * layout_.x_stride, layout_.x_stride, cudaMemcpyDeviceToDevice, product_));
    GRAVAL_CHECK(cudaMemcpyAsync(to.checksums.get(), ring.checksums.get() + std::size_t(count) * p_.k, 4ull * p_.k, cudaMemcpyDeviceToDevice, product_));
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
  DeviceBuffer<std::int8_t> blocks_;
  Ring ring_a_, ring_b_;
  DeviceBuffer<HashWords> leaves_, above_, trace_;
  DeviceBuffer<std::uint32_t> chosen_;
  PinnedBuffer<std::int8_t> checkpoints_;
  PinnedBuffer<HashWords> root_;
  Stream product_, hashing_;
  Event panel_done_;
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
