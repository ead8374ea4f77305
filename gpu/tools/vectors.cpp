// The answers that all implementations share, for any profile and seed: compared with gpu/test/vectors/*.json.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "arithmetic.hpp"
#include "bytes.hpp"
#include "chacha20.hpp"
#include "graval.h"
#include "hashes.hpp"
#include "commands.hpp"
#include "json.hpp"

namespace graval {
namespace {

std::string list_of(const std::vector<std::string> &items) {
  std::string text = "[";
  for (const std::string &item : items) text += (text.size() > 1 ? "," : "") + item;
  return text + "]";
}

std::string prg_at(const std::uint8_t *seed, std::uint64_t offset) {
  std::int8_t entries[16];
  prg(seed, offset, entries, 16);
  std::vector<std::string> items;
  for (const std::int8_t entry : entries) items.push_back(std::to_string(entry));
  return Json().number("offset", offset).raw("entries", list_of(items)).str();
}

std::string q_of(std::int32_t sum, std::uint32_t block, std::uint32_t row, std::uint32_t column) {
  return Json().raw("sum", std::to_string(sum)).number("block", block).number("row", row).number("column", column)
      .number("fill_tweak", fill_tweak(block, row, column)).raw("fill", std::to_string(q(sum, fill_tweak(block, row, column))))
      .number("walk_tweak", walk_tweak(block, row, column)).raw("walk", std::to_string(q(sum, walk_tweak(block, row, column)))).str();
}

}  // namespace

int run_vectors(Args &args) {
  const std::int64_t device = args.number("device", -1);
  const graval_profile p = profile_of(args, {8, 2, 5, 6, 4, 4});
  std::uint8_t seed[32] = {}, nonce2[32] = {};
  if (!from_hex(args.text("seed", std::string(64, '0')), seed, 32)) args.fail("--seed is not 64 hex digits");
  if (!from_hex(args.text("nonce2", std::string(64, '0')), nonce2, 32)) args.fail("--nonce2 is not 64 hex digits");
  if (!args.error().empty()) return EXIT_USAGE;

  std::vector<std::string> partners;
  Hash previous;
  previous.fill(0xab);
  for (const std::uint32_t block : {2u, 3u, 60u})
    partners.push_back(Json().number("block", block).text("previous_root", to_hex(previous.data(), 32)).number("j", partner_block(seed, block, previous)).str());

  graval_prover *raw = nullptr;
  std::uint8_t root[32], digest[32], trace_root[32];
  graval_status status = graval_begin(&p, seed, std::int32_t(device), &raw);
  const std::unique_ptr<graval_prover, void (*)(graval_prover *)> prover(raw, graval_destroy);
  if (status == GRAVAL_OK) status = graval_commit(raw, root);
  if (status == GRAVAL_OK) status = graval_walk(raw, nonce2, digest, trace_root);
  if (status != GRAVAL_OK) {
    std::fprintf(stderr, "graval vectors: %s\n", graval_status_name(status));
    return EXIT_FAILED;
  }
  const std::string out =
      Json().text("seed", to_hex(seed, 32)).raw("prg", list_of({prg_at(seed, 0), prg_at(seed, 60), prg_at(seed, 64), prg_at(seed, 1000)}))
          .raw("q", list_of({q_of(0, 0, 0, 0), q_of(1, 2, 3, 4), q_of(-1, 4, 7, 7), q_of(2114060288, 9, 11, 13), q_of(-2114060288, 65535, 8191, 8191)}))
          .raw("partner", list_of(partners)).text("root", to_hex(root, 32)).text("nonce2", to_hex(nonce2, 32)).text("digest", to_hex(digest, 32))
          .text("trace_root", to_hex(trace_root, 32)).str();
  std::printf("%s\n", out.c_str());
  return EXIT_YES;
}

}  // namespace graval
