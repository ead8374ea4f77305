#include "foresight.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>

#include "arithmetic.hpp"
#include "bytes.hpp"
#include "chacha20.hpp"
#include "hashes.hpp"
#include "merkle.hpp"
#include "scatter.hpp"

namespace graval {
namespace {

using Entries = std::vector<std::int8_t>;
using Place = std::pair<std::uint32_t, std::uint32_t>;  // block and row, or step and column

class Foresight {
 public:
  Foresight(const graval_profile &profile, std::uint32_t word) : p_(profile), word_(word) {
    proof_.claim.profile = p_;
    for (std::uint32_t i = 0; i < 32; i++) {
      proof_.claim.seed[i] = std::uint8_t(scatter(word + i));
      proof_.claim.nonce2[i] = std::uint8_t(scatter(word + 100 + i));
    }
    std::uint32_t at = 0;
    const auto below = [&](std::uint32_t limit) { return scatter(word_ * MULTIPLIER + at++) % limit; };
    for (std::uint32_t s = 0; s < p_.fill_samples; s++) {
      const std::uint32_t block = below(p_.blocks), row = below(p_.n), column = below(p_.n);
      proof_.fill.push_back({block, row, column});
      rows_.insert({row, column});
    }
    for (std::uint32_t s = 0; s < p_.walk_samples; s++) {
      const std::uint32_t step = below(p_.steps), row = below(p_.n), column = below(p_.k);
      proof_.walk.push_back({s == 0 ? 0 : s == 1 ? p_.steps - 1 : step, row, column});
      rows_.insert(row);
    }
  }

  ProofFile prove() {
    fill();
    walk();
    open();
    return std::move(proof_);
  }

 private:
  /// Every row a sample can lead to has contents in every block; the other leaves are bare hashes.
  void fill() {
    std::vector<Hash> root_leaves;
    for (std::uint32_t i = 0; i < p_.blocks; i++) {
      for (const graval_fill_sample &s : proof_.fill) {
        if (s.block != i || i < 2) continue;
        const std::uint32_t j = partner_block(proof_.claim.seed, i, roots_[i - 1]);
        partners_[i] = j;
        fixed_[{i, s.row}].push_back({s.column, q(dot(row(i - 1, s.row).data(), row(j, s.column).data(), p_.n), fill_tweak(i, s.row, s.column))});
      }
      trees_.push_back(tree_of(i));
      roots_.push_back(trees_[i].root());
      root_leaves.push_back(block_root_leaf(i, roots_[i]));
    }
    root_tree_ = std::make_unique<MerkleTree>(std::move(root_leaves));
    std::memcpy(proof_.claim.root, root_tree_->root().data(), 32);
  }

  MerkleTree tree_of(std::uint32_t i) const {
    std::vector<Hash> leaves(p_.n, Hash{});
    for (const std::uint32_t r : rows_) leaves[r] = row_leaf(i, r, row(i, r).data(), p_.n);
    return MerkleTree(std::move(leaves));
  }

  Entries row(std::uint32_t i, std::uint32_t r) const {
    Entries entries(p_.n);
    if (i < 2) {
      prg(proof_.claim.seed, (std::uint64_t(i) * p_.n + r) * p_.n, entries.data(), p_.n);
      return entries;
    }
    invent(entries, i * 0x10001u + r);
    if (const auto found = fixed_.find({i, r}); found != fixed_.end())
      for (const auto &[column, entry] : found->second) entries[column] = entry;
    return entries;
  }

  void invent(Entries &entries, std::uint32_t salt) const {
    std::uint32_t state = scatter(salt ^ word_) | 1u;
    for (std::int8_t &entry : entries) {
      state ^= state << 13, state ^= state >> 17, state ^= state << 5;
      entry = clamp_entry(std::int8_t(state >> 24));
    }
  }

  void walk() {
    std::map<std::uint32_t, std::set<std::uint32_t>> needed;  // step: the columns that are opened
    for (const graval_walk_sample &s : proof_.walk) needed[s.step].insert(s.column), needed[s.step + 1].insert(s.column);
    const Hash key = start_key(proof_.claim.seed, proof_.claim.nonce2, proof_.claim.root);
    std::vector<Hash> trace(std::size_t(p_.steps) + 1, Hash{});
    for (const auto &[step, columns] : needed) {
      std::vector<Hash> leaves(p_.k, Hash{});
      for (std::uint32_t c = 0; c < p_.k; c++) {
        if (step > 0 && columns.count(c) == 0) continue;
        Entries entries(p_.n);
        if (step == 0) prg(key.data(), std::uint64_t(c) * p_.n, entries.data(), p_.n);
        else invent(entries, 0x5eedu + step * 4099u + c);
        for (const graval_walk_sample &s : proof_.walk)
          if (s.step + 1 == step && s.column == c)
            entries[s.row] = q(dot(row(walk_block(s.step, p_.blocks), s.row).data(), columns_.at({s.step, c}).data(), p_.n), walk_tweak(step, s.row, c));
        leaves[c] = column_leaf(step, c, entries.data(), p_.n);
        if (columns.count(c) != 0) columns_[{step, c}] = std::move(entries);
      }
      column_trees_.emplace(step, MerkleTree(std::move(leaves)));
      trace[step] = trace_leaf(step, column_trees_.at(step).root());
    }
    trace_tree_ = std::make_unique<MerkleTree>(std::move(trace));
    std::memcpy(proof_.claim.digest, trace_tree_->leaf(p_.steps).data(), 32);
    std::memcpy(proof_.claim.trace_root, trace_tree_->root().data(), 32);
  }

  void open() {
    for (const graval_fill_sample &s : proof_.fill) {
      open_row(s.block, s.row);
      if (s.block < 2) continue;
      open_row(s.block - 1, s.row);
      open_row(partners_.at(s.block), s.column);
    }
    for (const graval_walk_sample &s : proof_.walk) {
      open_trace(s.step, s.column);
      open_trace(s.step + 1, s.column);
      open_row(walk_block(s.step, p_.blocks), s.row);
    }
  }

  void open_row(std::uint32_t i, std::uint32_t r) {
    const Entries entries = row(i, r);
    put_bytes(proof_.openings, reinterpret_cast<const std::uint8_t *>(entries.data()), p_.n);
    put_path(trees_[i], r);
    put_path(*root_tree_, i);
  }

  void open_trace(std::uint32_t step, std::uint32_t c) {
    put_bytes(proof_.openings, reinterpret_cast<const std::uint8_t *>(columns_.at({step, c}).data()), p_.n);
    put_path(column_trees_.at(step), c);
    put_path(*trace_tree_, step);
  }

  void put_path(const MerkleTree &tree, std::uint32_t index) {
    std::uint8_t path[32 * 40];
    put_bytes(proof_.openings, path, std::size_t(tree.write_path(index, path) - path));
  }

  const graval_profile p_;
  const std::uint32_t word_;
  ProofFile proof_;
  std::set<std::uint32_t> rows_;
  std::map<Place, std::vector<std::pair<std::uint32_t, std::int8_t>>> fixed_;
  std::map<std::uint32_t, std::uint32_t> partners_;
  std::vector<Hash> roots_;
  std::vector<MerkleTree> trees_;
  std::map<std::uint32_t, MerkleTree> column_trees_;
  std::map<Place, Entries> columns_;
  std::unique_ptr<MerkleTree> root_tree_, trace_tree_;
};

}  // namespace

ProofFile prove_with_foresight(const graval_profile &profile, std::uint32_t word) { return Foresight(profile, word).prove(); }

}  // namespace graval
