#pragma once
// A prover that was told the samples before it committed. It computes just the entries that will be looked at and invents the
// rest, so a proof of full size costs seconds on a CPU, and the verifier does with it exactly what it does with an honest one.
// It measures the verifier; and it shows why samples are drawn only after both commitments.
#include <cstdint>

#include "proof_file.hpp"

namespace graval {

/// A whole proof of `profile` that verifies. word: picks the samples and the contents.
ProofFile prove_with_foresight(const graval_profile &profile, std::uint32_t word);

}  // namespace graval
