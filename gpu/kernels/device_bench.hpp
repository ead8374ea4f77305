#pragma once
#include <cstdint>
#include <string>

#include "graval.h"

namespace graval {

/// Measures one device; a zero in the profile means: choose for its memory. report: one JSON object. calibrate adds "profile", a
/// row of the table of workflows/domain/proof/profiles.ts for this card.
graval_status bench_device(std::uint32_t device, graval_profile profile, bool calibrate, std::string &report) noexcept;

}  // namespace graval
