// The CUDA sources themselves, run by the emulator, against the reference: R, D, W and every byte of the openings.
#include "../kernels/cuda_backend.cu"

#include <cstdio>
#include <string>

#include "scatter.hpp"

namespace {

int failures = 0;
void check(bool holds, const std::string &what) {
  if (holds) return;
  failures++;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
}

struct Outcome {
  std::uint8_t root[32], digest[32], trace_root[32];
  std::vector<std::uint8_t> openings;
};

Outcome prove(const graval_profile &p, const std::uint8_t *seed, std::int32_t device) {
  Outcome out;
  const std::uint8_t nonce2[32] = {3, 1, 4};
  graval_prover *prover = nullptr;
  std::vector<graval_fill_sample> fill;
  std::vector<graval_walk_sample> walk;
  for (std::uint32_t s = 0; s < p.fill_samples; s++) fill.push_back({graval::scatter(s) % p.blocks, graval::scatter(s + 9) % p.n, graval::scatter(s + 77) % p.n});
  for (std::uint32_t s = 0; s < p.walk_samples; s++)
    walk.push_back({s == 0 ? 0 : s == 1 ? p.steps - 1 : graval::scatter(s + 5) % p.steps, graval::scatter(s + 3) % p.n, graval::scatter(s + 1) % p.k});
  check(graval_begin(&p, seed, device, &prover) == GRAVAL_OK, "begin");
  check(graval_commit(prover, out.root) == GRAVAL_OK, "commit");
  check(graval_walk(prover, seed, out.digest, out.trace_root) == GRAVAL_OK, "a first walk");
  check(graval_walk(prover, nonce2, out.digest, out.trace_root) == GRAVAL_OK, "a second walk, over what the first left behind");
  std::size_t size = 0;
  check(graval_open(prover, fill.data(), fill.size(), walk.data(), walk.size(), nullptr, &size) == GRAVAL_OK, "size");
  out.openings.resize(size);
  check(graval_open(prover, fill.data(), fill.size(), walk.data(), walk.size(), out.openings.data(), &size) == GRAVAL_OK, "open");
  graval_destroy(prover);
  return out;
}

void compare(const graval_profile &p, std::uint32_t word) {
  std::uint8_t seed[32];
  for (std::uint32_t i = 0; i < 32; i++) seed[i] = std::uint8_t(graval::scatter(word + i));
  const Outcome expected = prove(p, seed, -1);
  // streams only matter where several chunks of steps are under way
  for (unsigned order = 0; order < (p.steps > 8 ? 4u : 1u); order++) {
    emulator::eager_streams = order;
    emulator::streams_made = 0;
    const Outcome found = prove(p, seed, 0);
    const std::string which = "n=" + std::to_string(p.n) + " k=" + std::to_string(p.k) + " M=" + std::to_string(p.blocks) + " T=" + std::to_string(p.steps) +
                              " stream order " + std::to_string(order);
    check(std::memcmp(found.root, expected.root, 32) == 0, "R, " + which);
    check(std::memcmp(found.digest, expected.digest, 32) == 0, "D, " + which);
    check(std::memcmp(found.trace_root, expected.trace_root, 32) == 0, "W, " + which);
    check(found.openings == expected.openings, "openings, " + which);
  }
}

}  // namespace

int main() {
  // both ends of every tile, tree and chunk: below, at and past a boundary
  const graval_profile profiles[] = {{1, 1, 2, 1, 2, 2},    {8, 2, 5, 6, 4, 4},    {12, 3, 7, 9, 5, 5},    {55, 4, 3, 32, 3, 6}, {56, 5, 2, 65, 3, 9},
                                     {65, 65, 3, 3, 3, 4}, {119, 2, 3, 31, 3, 4}, {130, 192, 3, 2, 3, 3}, {257, 6, 3, 2, 6, 3},
                                     {129, 97, 3, 2, 3, 3}, {130, 450, 2, 1, 3, 3}};
  std::uint32_t word = 1;
  for (const graval_profile &p : profiles) compare(p, word++);
  // cards of more processors: narrower tiles, several across
  for (const int processors : {4, 1000}) {
    emulated_processors = processors;
    for (const graval_profile &p : {graval_profile{130, 250, 3, 2, 3, 3}, graval_profile{130, 330, 2, 1, 3, 3}}) compare(p, word++);
  }
  // the kernels of sm_75: two slices in flight
  emulated_shared_bytes = 64 * 1024;
  for (const int processors : {1, 4, 1000}) {
    emulated_processors = processors;
    for (const graval_profile &p : {graval_profile{12, 3, 7, 9, 5, 5}, graval_profile{130, 250, 3, 2, 3, 3}, graval_profile{200, 70, 3, 2, 3, 3}}) compare(p, word++);
  }
  // memory that runs out part way leaves nothing behind (a sanitizer would see it), and says so
  const graval_profile small{8, 2, 5, 6, 4, 4};
  const std::uint8_t seed[32] = {};
  for (std::uint64_t allowed = 0; allowed < 7; allowed++) {
    emulator::allocations_left = allowed;
    graval_prover *prover = nullptr;
    check(graval_begin(&small, seed, 0, &prover) == GRAVAL_OUT_OF_MEMORY && !prover, "no memory is a status");
  }
  emulator::allocations_left = ~std::uint64_t(0);
  graval_prover *prover = nullptr;
  check(graval_begin(&small, seed, 7, &prover) == GRAVAL_NO_DEVICE, "no such device is a status");
  std::printf("%s\n", failures == 0 ? "the emulated device agrees" : "some failed");
  return failures == 0 ? 0 : 1;
}
