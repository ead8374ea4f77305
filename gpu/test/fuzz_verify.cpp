// Any bytes as a proof file. corpus/verify/holds is one that verifies, so that mutations reach every part of it; the other files are
// what libFuzzer found beside it. For a new format: `graval_test DIR` writes the readable ones anew (both targets); run a libFuzzer
// build on them for a minute, then keep its `-merge=1 -set_cover_merge=1`.
#include <cstdint>
#include <cstdlib>

#include "proof_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  graval::ProofFile proof;
  if (!graval::parse_proof(data, size, proof)) return 0;
  const graval_profile &p = proof.claim.profile;
  if (std::uint64_t(p.n) * p.k > 1u << 16) return 0;  // honest work of the validator's own profile, not a defect
  proof.fill.reserve(1);
  proof.walk.reserve(1);
  graval_fault fault = GRAVAL_FAULT_NONE;
  const graval_status status = graval_verify(&proof.claim, proof.fill.data(), proof.fill.size(), proof.walk.data(), proof.walk.size(),
                                             proof.openings.data(), proof.openings.size(), &fault);
  if (status != GRAVAL_OK && status != GRAVAL_REFUSED) std::abort();
  if ((status == GRAVAL_OK) != (fault == GRAVAL_FAULT_NONE)) std::abort();
  // what is accepted has exactly one spelling
  if (status == GRAVAL_OK) {
    const std::vector<std::uint8_t> again = graval::write_proof(proof);
    if (again != std::vector<std::uint8_t>(data, data + size)) std::abort();
  }
  return 0;
}
