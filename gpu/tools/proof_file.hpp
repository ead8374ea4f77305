#pragma once
// A recorded proof as one run of bytes (docs/proof.md "Proof file"): what `graval verify` reads and `serve` is asked to verify.
#include <cstdint>
#include <vector>

#include "graval.h"

namespace graval {

constexpr char PROOF_MAGIC[8] = {'G', 'R', 'A', 'V', 'A', 'L', 'P', '2'};

struct ProofFile {
  graval_claim claim{};
  std::vector<graval_fill_sample> fill;
  std::vector<graval_walk_sample> walk;
  std::vector<std::uint8_t> openings;
};

/// false: not a proof file at all, or cut before its openings. A profile out of bounds still parses: the verifier names it.
bool parse_proof(const std::uint8_t *data, std::size_t size, ProofFile &out);
std::vector<std::uint8_t> write_proof(const ProofFile &proof);

}  // namespace graval
