#pragma once
// Subcommands of `graval`. Each returns the exit status: 0 yes, 1 failed, 2 refused, 64 usage.
#include "args.hpp"
#include "graval.h"

namespace graval {

constexpr int EXIT_YES = 0, EXIT_FAILED = 1, EXIT_REFUSED = 2, EXIT_USAGE = 64;

int run_verify(Args &args);
int run_vectors(Args &args);
int run_bench(Args &args);
/// Profile from --n --k --blocks --steps --fill-samples --walk-samples, each with the default given.
graval_profile profile_of(Args &args, const graval_profile &otherwise);

}  // namespace graval
