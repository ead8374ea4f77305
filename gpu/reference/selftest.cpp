// A small proof on the device, held against the reference: what a build or a driver breaks shows here, before it costs a launch.
#include <cstring>
#include <memory>
#include <vector>

#include "graval.h"
#include "hashes.hpp"
#include "scatter.hpp"

namespace {

struct Destroy {
  void operator()(graval_prover *prover) const { graval_destroy(prover); }
};

struct Proof {
  std::uint8_t root[32], digest[32], trace_root[32];
  std::vector<std::uint8_t> openings;
};

const std::uint8_t NONCE2[32] = {9, 8, 7, 6, 5};

graval_status prove(const graval_profile &p, const std::uint8_t *seed, std::int32_t device, const std::vector<graval_fill_sample> &fill,
                    const std::vector<graval_walk_sample> &walk, Proof &out) {
  graval_prover *raw = nullptr;
  graval_status status = graval_begin(&p, seed, device, &raw);
  const std::unique_ptr<graval_prover, Destroy> prover(raw);
  if (status == GRAVAL_OK) status = graval_commit(raw, out.root);
  if (status == GRAVAL_OK) status = graval_walk(raw, NONCE2, out.digest, out.trace_root);
  std::size_t size = 0;
  if (status == GRAVAL_OK) status = graval_open(raw, fill.data(), fill.size(), walk.data(), walk.size(), nullptr, &size);
  if (status != GRAVAL_OK) return status;
  out.openings.resize(size);
  return graval_open(raw, fill.data(), fill.size(), walk.data(), walk.size(), out.openings.data(), &size);
}

/// Any number of them from one, the same on every machine.
class Draws {
 public:
  explicit Draws(std::uint32_t seed) : word_(graval::scatter(seed)) {}
  std::uint32_t below(std::uint32_t end) { return graval::scatter(word_++) % end; }
  std::uint32_t between(std::uint32_t least, std::uint32_t most) { return least + below(most - least + 1); }

 private:
  std::uint32_t word_;
};

/// The device's proof equals the reference's, the verifier takes it, and refuses it with one bit changed.
graval_status test_profile(const graval_profile &p, std::int32_t device, std::uint32_t drawn) {
  Draws draws(drawn);
  std::uint8_t seed[32];
  for (std::uint8_t &byte : seed) byte = std::uint8_t(draws.below(256));
  std::vector<graval_fill_sample> fill;
  std::vector<graval_walk_sample> walk;
  for (std::uint32_t s = 0; s < p.fill_samples; s++) fill.push_back({draws.below(p.blocks), draws.below(p.n), draws.below(p.n)});
  for (std::uint32_t s = 0; s < p.walk_samples; s++) walk.push_back({s == 0 ? 0 : s == 1 ? p.steps - 1 : draws.below(p.steps), draws.below(p.n), draws.below(p.k)});
  Proof proof, expected;
  if (const graval_status status = prove(p, seed, device, fill, walk, proof)) return status;
  if (const graval_status status = prove(p, seed, -1, fill, walk, expected)) return status;
  if (std::memcmp(proof.root, expected.root, 32) != 0 || std::memcmp(proof.digest, expected.digest, 32) != 0 ||
      std::memcmp(proof.trace_root, expected.trace_root, 32) != 0 || proof.openings != expected.openings)
    return GRAVAL_DEVICE_FAULT;
  graval_claim claim{};
  claim.profile = p;
  std::memcpy(claim.seed, seed, 32);
  std::memcpy(claim.root, proof.root, 32);
  std::memcpy(claim.nonce2, NONCE2, 32);
  std::memcpy(claim.digest, proof.digest, 32);
  std::memcpy(claim.trace_root, proof.trace_root, 32);
  graval_fault fault = GRAVAL_FAULT_NONE;
  const auto verify = [&] { return graval_verify(&claim, fill.data(), fill.size(), walk.data(), walk.size(), proof.openings.data(), proof.openings.size(), &fault); };
  if (const graval_status status = verify()) return status;
  // a verifier that says yes to everything is the worse defect
  proof.openings[proof.openings.size() / 2] ^= 1;
  return verify() == GRAVAL_REFUSED ? GRAVAL_OK : GRAVAL_DEVICE_FAULT;
}

}  // namespace

extern "C" graval_status graval_selftest(int32_t device) {
  // powers of two, odd sizes, more than one tile of a device in each direction
  const graval_profile profiles[] = {{8, 2, 5, 6, 6, 6}, {13, 3, 7, 9, 7, 8}, {64, 4, 6, 20, 8, 8}, {300, 70, 4, 5, 6, 6}, {512, 16, 3, 70, 6, 8}};
  try {
    for (const graval_profile &profile : profiles)
      if (const graval_status status = test_profile(profile, device, profile.n)) return status;
    return GRAVAL_OK;
  } catch (...) {
    return GRAVAL_OUT_OF_MEMORY;
  }
}

extern "C" graval_status graval_selftest_rounds(int32_t device, uint32_t rounds, uint32_t *failed) {
  if (!failed) return GRAVAL_INVALID_ARGUMENT;
  try {
    for (*failed = 0; *failed < rounds; ++*failed) {
      Draws draws(~*failed);
      const std::uint32_t n = *failed % 16 == 0 ? draws.between(129, 400) : draws.between(2, 96), blocks = draws.between(3, 9);
      const graval_profile profile{n, draws.between(1, n < 64 ? n : 64), blocks, draws.between(blocks, 3 * blocks), 8, 8};
      if (const graval_status status = test_profile(profile, device, *failed)) return status;
    }
    return GRAVAL_OK;
  } catch (...) {
    return GRAVAL_OUT_OF_MEMORY;
  }
}
