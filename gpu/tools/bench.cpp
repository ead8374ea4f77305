// Measurements as JSON: the verifier on this CPU, and a device's prover where there is one.
#include <cstdio>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "commands.hpp"
#include "foresight.hpp"
#include "graval.h"
#include "json.hpp"
#ifdef GRAVAL_CUDA
#include "device_bench.hpp"
#endif

namespace graval {
namespace {

double seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

graval_fault verify(const ProofFile &proof) {
  graval_fault fault = GRAVAL_FAULT_NONE;
  const graval_status status = graval_verify(&proof.claim, proof.fill.data(), proof.fill.size(), proof.walk.data(), proof.walk.size(),
                                             proof.openings.data(), proof.openings.size(), &fault);
  return status == GRAVAL_OK || status == GRAVAL_REFUSED ? fault : GRAVAL_FAULT_OPENINGS_MALFORMED;
}

/// The 80 GB class unless told otherwise: n = 16384, k = 256, 284 blocks, 150 000 steps, 128 samples each.
int bench_verifier(Args &args) {
  const graval_profile p = profile_of(args, {16384, 256, 284, 150000, 128, 128});
  const std::uint32_t gpus = args.count("gpus", 8), threads = args.count("threads", 2), rounds = args.count("rounds", 5);
  if (!args.error().empty() || gpus == 0 || threads == 0 || rounds == 0) return EXIT_USAGE;
  const ProofFile proof = prove_with_foresight(p, 1);
  double best = 1e9, worst = 0;
  for (std::uint32_t round = 0; round < rounds; round++) {
    const double from = seconds(CLOCK_PROCESS_CPUTIME_ID);
    if (const graval_fault fault = verify(proof)) {
      std::fprintf(stderr, "graval bench: a proof that holds was refused: %s\n", graval_fault_name(fault));
      return EXIT_FAILED;
    }
    const double took = seconds(CLOCK_PROCESS_CPUTIME_ID) - from;
    best = took < best ? took : best;
    worst = took > worst ? took : worst;
  }
  const double from = seconds(CLOCK_MONOTONIC);
  std::vector<std::thread> pool;
  for (std::uint32_t t = 0; t < threads; t++)
    pool.emplace_back([&, t] {
      for (std::uint32_t gpu = t; gpu < gpus; gpu += threads) verify(proof);
    });
  for (std::thread &thread : pool) thread.join();
  const double server = seconds(CLOCK_MONOTONIC) - from;
  std::printf("%s\n", Json().text("bench", "verify").number("n", p.n).number("k", p.k).number("blocks", p.blocks).number("steps", p.steps)
                          .number("fill_samples", p.fill_samples).number("walk_samples", p.walk_samples).number("openings_bytes", proof.openings.size())
                          .measure("cpu_seconds_best", best).measure("cpu_seconds_worst", worst)
                          .measure("cpu_ms_per_sample", 1000 * best / (double(p.fill_samples) + p.walk_samples)).number("gpus", gpus)
                          .number("threads", threads).measure("server_wall_seconds", server).str().c_str());
  return EXIT_YES;
}

}  // namespace

graval_profile profile_of(Args &args, const graval_profile &otherwise) {
  return {args.count("n", otherwise.n), args.count("k", otherwise.k), args.count("blocks", otherwise.blocks), args.count("steps", otherwise.steps),
          args.count("fill-samples", otherwise.fill_samples), args.count("walk-samples", otherwise.walk_samples)};
}

int run_bench(Args &args) {
  if (args.has("verify")) return bench_verifier(args);
#ifdef GRAVAL_CUDA
  const std::uint32_t device = args.count("device", 0), steps = args.count("steps", 0), n = args.count("n", 0), k = args.count("k", 0);
  const std::uint32_t blocks = args.count("blocks", 0);
  if (!args.error().empty()) return EXIT_USAGE;
  std::string report;
  const graval_status status = bench_device(device, {n, k, blocks, steps, 128, 128}, args.has("calibrate"), report);
  if (status == GRAVAL_OK) {
    std::printf("%s\n", report.c_str());
    return EXIT_YES;
  }
  std::fprintf(stderr, "graval bench: %s\n", graval_status_name(status));
  return EXIT_FAILED;
#else
  std::fprintf(stderr, "graval bench: built without CUDA; --verify measures the verifier\n");
  return EXIT_FAILED;
#endif
}

}  // namespace graval
