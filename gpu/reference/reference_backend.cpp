// Plain loops that define what every device must answer.
#include "arithmetic.hpp"
#include "backend.hpp"
#include "chacha20.hpp"
#include "hashes.hpp"
#include "merkle.hpp"

namespace graval {
namespace {

class ReferenceBackend final : public Backend {
 public:
  ReferenceBackend(const graval_profile &profile, const std::uint8_t *seed)
      : p_(profile), block_bytes_(std::size_t(p_.n) * p_.n), x_bytes_(std::size_t(p_.n) * p_.k), blocks_(block_bytes_ * p_.blocks) {
    for (int i = 0; i < 32; i++) seed_[i] = seed[i];
  }

  void draw_block(std::uint32_t i) override { prg(seed_, i * std::uint64_t(block_bytes_), block(i), block_bytes_); }

  void multiply(std::uint32_t i, std::uint32_t partner) override {
    const std::int8_t *left = block(i - 1), *right = block(partner);
    std::int8_t *out = block(i);
    for (std::uint32_t r = 0; r < p_.n; r++)
      for (std::uint32_t c = 0; c < p_.n; c++)
        out[std::size_t(r) * p_.n + c] = q(dot(left + std::size_t(r) * p_.n, right + std::size_t(c) * p_.n, p_.n), fill_tweak(i, r, c));
  }

  Hash block_root(std::uint32_t i) override {
    std::vector<Hash> leaves;
    block_leaves(i, leaves);
    return MerkleTree(std::move(leaves)).root();
  }

  void block_leaves(std::uint32_t i, std::vector<Hash> &out) override {
    out.resize(p_.n);
    for (std::uint32_t r = 0; r < p_.n; r++) out[r] = row_leaf(i, r, block(i) + std::size_t(r) * p_.n, p_.n);
  }

  void read_row(std::uint32_t i, std::uint32_t row, std::int8_t *out) override {
    const std::int8_t *from = block(i) + std::size_t(row) * p_.n;
    for (std::uint32_t m = 0; m < p_.n; m++) out[m] = from[m];
  }

  void walk(const std::uint8_t *key, std::vector<Hash> &leaves) override {
    x_.resize(x_bytes_ * (std::size_t(p_.steps) + 1));
    leaves.resize(std::size_t(p_.steps) + 1);
    prg(key, 0, x_.data(), x_bytes_);
    for (std::uint32_t t = 0; t < p_.steps; t++) step(block(walk_block(t, p_.blocks)), t);
    for (std::uint32_t t = 0; t <= p_.steps; t++) leaves[t] = trace_leaf(t, MerkleTree(column_leaves(t)).root());
  }

  void visit_trace(const std::vector<TraceRequest> &requests, const std::function<void(const TraceRequest &, const TraceView &)> &visit) override {
    for (const TraceRequest &request : requests) {
      const std::vector<Hash> leaves = column_leaves(request.step);
      visit(request, TraceView{column(request.step, request.column), leaves});
    }
  }

 private:
  std::int8_t *block(std::uint32_t i) { return blocks_.data() + block_bytes_ * i; }
  std::int8_t *column(std::uint32_t t, std::uint32_t c) { return x_.data() + x_bytes_ * t + std::size_t(c) * p_.n; }

  void step(const std::int8_t *by, std::uint32_t t) {
    for (std::uint32_t c = 0; c < p_.k; c++)
      for (std::uint32_t r = 0; r < p_.n; r++)
        column(t + 1, c)[r] = q(dot(by + std::size_t(r) * p_.n, column(t, c), p_.n), walk_tweak(t + 1, r, c));
  }

  std::vector<Hash> column_leaves(std::uint32_t t) {
    std::vector<Hash> leaves(p_.k);
    for (std::uint32_t c = 0; c < p_.k; c++) leaves[c] = column_leaf(t, c, column(t, c), p_.n);
    return leaves;
  }

  const graval_profile p_;
  const std::size_t block_bytes_, x_bytes_;
  std::uint8_t seed_[32];
  std::vector<std::int8_t> blocks_, x_;
};

}  // namespace

std::unique_ptr<Backend> make_reference_backend(const graval_profile &profile, const std::uint8_t *seed) {
  return std::make_unique<ReferenceBackend>(profile, seed);
}

std::uint64_t reference_backend_bytes(const graval_profile &p) noexcept {
  const std::uint64_t trace = std::uint64_t(p.n) * p.k + 32;
  return std::uint64_t(p.n) * p.n * p.blocks + (std::uint64_t(p.steps) + 1) * trace;
}

}  // namespace graval
