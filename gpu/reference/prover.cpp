// The prover over any backend: order of the steps, the trees over roots and trace, and the openings in their binary form.
#include <algorithm>
#include <cstring>
#include <new>
#include <optional>

#include "arithmetic.hpp"
#include "backend.hpp"
#include "hashes.hpp"
#include "merkle.hpp"

using namespace graval;

namespace {

struct RowRequest {
  std::uint32_t block, row;
  std::size_t at;  // where its opening begins
};

}  // namespace

struct graval_prover {
  graval_prover(const graval_profile &profile, const std::uint8_t *s, std::unique_ptr<Backend> b) : p(profile), backend(std::move(b)) {
    std::memcpy(seed, s, sizeof seed);
  }

  const Hash &commit() {
    root_tree.reset();
    trace_tree.reset();
    roots.resize(p.blocks);
    for (std::uint32_t i = 0; i < p.blocks; i++) {
      if (i < 2) backend->draw_block(i);
      else backend->multiply(i, partner_of(i));
      roots[i] = backend->block_root(i);
    }
    std::vector<Hash> leaves(p.blocks);
    for (std::uint32_t i = 0; i < p.blocks; i++) leaves[i] = block_root_leaf(i, roots[i]);
    root_tree.emplace(std::move(leaves));
    return root_tree->root();
  }

  void walk(const std::uint8_t *nonce2, std::uint8_t *digest, std::uint8_t *trace_root) {
    trace_tree.reset();
    std::vector<Hash> leaves;
    backend->walk(start_key(seed, nonce2, root_tree->root().data()).data(), leaves);
    trace_tree.emplace(std::move(leaves));
    std::memcpy(digest, trace_tree->leaf(p.steps).data(), 32);
    std::memcpy(trace_root, trace_tree->root().data(), 32);
  }

  /// Lays the openings out, then fills the places block by block and step by step: a device answers each only once.
  graval_status open(const graval_fill_sample *fill, const graval_walk_sample *walk, std::uint8_t *out, std::size_t *room) {
    std::vector<RowRequest> rows;
    std::vector<TraceRequest> traces;
    std::size_t size = 0;
    const auto add_row = [&](std::uint32_t block, std::uint32_t row) {
      rows.push_back({block, row, size});
      size += p.n + 32 * (merkle_path_length(row, p.n) + merkle_path_length(block, p.blocks));
    };
    const auto add_trace = [&](std::uint32_t step, std::uint32_t column) {
      traces.push_back({step, column, size});
      size += p.n + 32 * (merkle_path_length(column, p.k) + merkle_path_length(step, std::uint64_t(p.steps) + 1));
    };
    for (std::uint32_t s = 0; s < p.fill_samples; s++) {
      add_row(fill[s].block, fill[s].row);
      if (fill[s].block < 2) continue;
      add_row(fill[s].block - 1, fill[s].row);
      add_row(partner_of(fill[s].block), fill[s].column);
    }
    for (std::uint32_t s = 0; s < p.walk_samples; s++) {
      add_trace(walk[s].step, walk[s].column);
      add_trace(walk[s].step + 1, walk[s].column);
      add_row(walk_block(walk[s].step, p.blocks), walk[s].row);
    }
    const std::size_t given = *room;
    *room = size;
    if (!out) return GRAVAL_OK;
    if (given < size) return GRAVAL_BUFFER_TOO_SMALL;
    write_rows(rows, out);
    write_traces(traces, out);
    return GRAVAL_OK;
  }

  std::uint32_t partner_of(std::uint32_t block) const { return partner_block(seed, block, roots[block - 1]); }

  void write_rows(std::vector<RowRequest> &rows, std::uint8_t *out) {
    std::sort(rows.begin(), rows.end(), [](const RowRequest &a, const RowRequest &b) { return a.block < b.block; });
    std::optional<MerkleTree> tree;
    std::uint32_t held = p.blocks;
    for (const RowRequest &row : rows) {
      if (row.block != held) {
        std::vector<Hash> leaves;
        backend->block_leaves(row.block, leaves);
        tree.emplace(std::move(leaves));
        held = row.block;
      }
      backend->read_row(row.block, row.row, reinterpret_cast<std::int8_t *>(out + row.at));
      std::uint8_t *path = tree->write_path(row.row, out + row.at + p.n);
      root_tree->write_path(row.block, path);
    }
  }

  void write_traces(std::vector<TraceRequest> &traces, std::uint8_t *out) {
    std::stable_sort(traces.begin(), traces.end(), [](const TraceRequest &a, const TraceRequest &b) { return a.step < b.step; });
    backend->visit_trace(traces, [&](const TraceRequest &request, const TraceView &view) {
      std::uint8_t *at = out + request.tag;
      std::memcpy(at, view.entries, p.n);
      at = MerkleTree(view.column_leaves).write_path(request.column, at + p.n);
      trace_tree->write_path(request.step, at);
    });
  }

  const graval_profile p;
  std::uint8_t seed[32];
  std::unique_ptr<Backend> backend;
  std::vector<Hash> roots;
  std::optional<MerkleTree> root_tree, trace_tree;
  bool broken = false;
};

namespace {

/// Runs `work` and turns what it throws into a status.
template <typename Work>
graval_status guarded(Work work) noexcept {
  try {
    return work();
  } catch (const std::bad_alloc &) {
    return GRAVAL_OUT_OF_MEMORY;
  } catch (const NoDevice &) {
    return GRAVAL_NO_DEVICE;
  } catch (...) {
    return GRAVAL_DEVICE_FAULT;
  }
}

/// The same for a prover's steps: after a device's fault nothing it holds can be trusted.
template <typename Work>
graval_status stepping(graval_prover *prover, Work work) noexcept {
  if (prover->broken) return GRAVAL_DEVICE_FAULT;
  const graval_status status = guarded(work);
  prover->broken = status == GRAVAL_DEVICE_FAULT;
  return status;
}

}  // namespace

extern "C" {

graval_status graval_prover_bytes(const graval_profile *profile, int32_t device, uint64_t *bytes) {
  if (!profile || !bytes || !is_sound(*profile)) return GRAVAL_INVALID_ARGUMENT;
#ifdef GRAVAL_CUDA
  if (device >= 0) {
    *bytes = cuda_backend_bytes(*profile);
    return GRAVAL_OK;
  }
#endif
  if (device != -1) return GRAVAL_NO_DEVICE;
  *bytes = reference_backend_bytes(*profile);
  return GRAVAL_OK;
}

graval_status graval_begin(const graval_profile *profile, const uint8_t seed[GRAVAL_HASH_BYTES], int32_t device, graval_prover **out) {
  if (!out) return GRAVAL_INVALID_ARGUMENT;
  *out = nullptr;
  if (!profile || !seed || !is_sound(*profile) || device < -1) return GRAVAL_INVALID_ARGUMENT;
  return guarded([&] {
    std::unique_ptr<Backend> backend;
    if (device == -1) {
      if (reference_backend_bytes(*profile) > GRAVAL_REFERENCE_LIMIT) return GRAVAL_OUT_OF_MEMORY;
      backend = make_reference_backend(*profile, seed);
    } else {
#ifdef GRAVAL_CUDA
      backend = make_cuda_backend(*profile, seed, std::uint32_t(device));
#else
      return GRAVAL_NO_DEVICE;
#endif
    }
    *out = new graval_prover(*profile, seed, std::move(backend));
    return GRAVAL_OK;
  });
}

graval_status graval_commit(graval_prover *prover, uint8_t root[GRAVAL_HASH_BYTES]) {
  if (!prover || !root) return GRAVAL_INVALID_ARGUMENT;
  return stepping(prover, [&] {
    std::memcpy(root, prover->commit().data(), 32);
    return GRAVAL_OK;
  });
}

graval_status graval_walk(graval_prover *prover, const uint8_t nonce2[GRAVAL_HASH_BYTES], uint8_t digest[GRAVAL_HASH_BYTES],
                          uint8_t trace_root[GRAVAL_HASH_BYTES]) {
  if (!prover || !nonce2 || !digest || !trace_root) return GRAVAL_INVALID_ARGUMENT;
  if (!prover->root_tree) return GRAVAL_OUT_OF_ORDER;
  return stepping(prover, [&] {
    prover->walk(nonce2, digest, trace_root);
    return GRAVAL_OK;
  });
}

graval_status graval_open(graval_prover *prover, const graval_fill_sample *fill, size_t fill_count, const graval_walk_sample *walk,
                          size_t walk_count, uint8_t *out, size_t *size) {
  if (!prover || !fill || !walk || !size || !are_sound(prover->p, fill, fill_count, walk, walk_count)) return GRAVAL_INVALID_ARGUMENT;
  if (!prover->root_tree || !prover->trace_tree) return GRAVAL_OUT_OF_ORDER;
  return stepping(prover, [&] { return prover->open(fill, walk, out, size); });
}

void graval_destroy(graval_prover *prover) { delete prover; }

}  // extern "C"
