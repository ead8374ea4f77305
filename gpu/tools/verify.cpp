// `graval verify`: a recorded proof checked again by whoever doubts it. The verdict as JSON on stdout, in words on stderr.
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "bytes.hpp"
#include "commands.hpp"
#include "json.hpp"
#include "proof_file.hpp"
#include "serve.hpp"

namespace graval {
namespace {

bool read_whole(const std::string &file, std::vector<std::uint8_t> &out) {
  std::FILE *from = file == "-" ? stdin : std::fopen(file.c_str(), "rb");
  if (!from) return false;
  const std::size_t limit = ServeLimits{}.verify_bytes;
  std::uint8_t part[65536];
  for (std::size_t got; out.size() <= limit && (got = std::fread(part, 1, sizeof part, from)) > 0;) out.insert(out.end(), part, part + got);
  const bool whole = std::ferror(from) == 0 && out.size() <= limit;
  if (from != stdin) std::fclose(from);
  return whole;
}

const char *meaning_of(graval_fault fault) {
  switch (fault) {
    case GRAVAL_FAULT_NONE: return "every sampled entry is what the definition makes of the data that was committed to";
    case GRAVAL_FAULT_CHALLENGE_MALFORMED: return "the profile is out of the proof's bounds";
    case GRAVAL_FAULT_SAMPLES_MALFORMED: return "a sample is outside the profile, or the walk's first or last step is not among them";
    case GRAVAL_FAULT_OPENINGS_MALFORMED: return "the openings are longer or shorter than these samples need";
    case GRAVAL_FAULT_FILL_ROW_NOT_COMMITTED: return "a row opened for a fill sample does not lead to R";
    case GRAVAL_FAULT_FILL_SEED_BLOCK_DIFFERS: return "a row of one of the first two blocks is not the one S demands";
    case GRAVAL_FAULT_FILL_ENTRY_DIFFERS: return "an entry of a block is not the product of the rows that make it";
    case GRAVAL_FAULT_WALK_LEAF_NOT_COMMITTED: return "a column opened for a walk sample does not lead to W";
    case GRAVAL_FAULT_WALK_START_DIFFERS: return "the walk did not start where S, N2 and R demand";
    case GRAVAL_FAULT_WALK_DIGEST_DIFFERS: return "the walk did not end at D";
    case GRAVAL_FAULT_WALK_ROW_NOT_COMMITTED: return "a row of the block a step multiplies with does not lead to R";
    case GRAVAL_FAULT_WALK_ENTRY_DIFFERS: return "an entry after a step is not the product of the block's row and the column before it";
  }
  return "unknown";
}

void describe(const std::string &file, std::size_t bytes, const ProofFile &proof) {
  const graval_profile &p = proof.claim.profile;
  std::fprintf(stderr, "file      %s, %zu bytes, %s\n", file == "-" ? "stdin" : file.c_str(), bytes, GRAVAL_PROOF_VERSION);
  std::fprintf(stderr, "profile   n = %u, k = %u, %u blocks (%.4g GB of memory), %u steps (%.4g rounds of all blocks)\n", p.n, p.k, p.blocks,
               double(p.n) * p.n * p.blocks / 1e9, p.steps, p.blocks > 0 ? double(p.steps) / p.blocks : 0);
  std::fprintf(stderr, "samples   %u of the fill, %u of the walk, %zu bytes of openings\n", p.fill_samples, p.walk_samples, proof.openings.size());
  const struct { const char *name; const std::uint8_t *hash; } hashes[] = {
      {"S", proof.claim.seed}, {"R", proof.claim.root}, {"N2", proof.claim.nonce2}, {"D", proof.claim.digest}, {"W", proof.claim.trace_root}};
  for (const auto &each : hashes) std::fprintf(stderr, "%-9s %s\n", each.name, to_hex(each.hash, 32).c_str());
}

}  // namespace

int run_verify(Args &args) {
  if (args.file().empty()) args.fail("verify needs a file, or - for stdin");
  if (!args.error().empty()) return EXIT_USAGE;
  const auto say = [&](const std::string &why) {
    args.fail(why);
    return EXIT_USAGE;
  };
  std::vector<std::uint8_t> bytes;
  ProofFile proof;
  if (!read_whole(args.file(), bytes)) return say("cannot read " + args.file() + ", or it is larger than any proof");
  if (!parse_proof(bytes.data(), bytes.size(), proof)) return say(args.file() + " is no proof file of " GRAVAL_PROOF_VERSION);
  if (!args.has("json")) describe(args.file(), bytes.size(), proof);
  proof.fill.reserve(1);  // an address even when empty
  proof.walk.reserve(1);
  graval_fault fault = GRAVAL_FAULT_NONE;
  const auto began = std::chrono::steady_clock::now();
  const graval_status status = graval_verify(&proof.claim, proof.fill.data(), proof.fill.size(), proof.walk.data(), proof.walk.size(),
                                             proof.openings.data(), proof.openings.size(), &fault);
  const double took_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
  if (status != GRAVAL_OK && status != GRAVAL_REFUSED) {
    std::fprintf(stderr, "graval verify: %s\n", graval_status_name(status));
    return EXIT_FAILED;
  }
  if (!args.has("json")) {
    std::fprintf(stderr, "verdict   %s: %s (%.1f ms)\n", fault == GRAVAL_FAULT_NONE ? "holds" : graval_fault_name(fault), meaning_of(fault), took_ms);
    if (fault == GRAVAL_FAULT_NONE)
      std::fprintf(stderr, "no file shows that S belongs to the challenge (compute it), that N2 and the samples were drawn late, and how long the prover took\n");
  }
  if (status == GRAVAL_OK) std::printf("%s\n", Json().flag("verified", true).number("samples", proof.fill.size() + proof.walk.size()).str().c_str());
  else std::printf("%s\n", Json().flag("verified", false).text("reason", graval_fault_name(fault)).str().c_str());
  return status == GRAVAL_OK ? EXIT_YES : EXIT_REFUSED;
}

}  // namespace graval
