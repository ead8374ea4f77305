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
#include "timed_proof.hpp"
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

#ifdef GRAVAL_CUDA
int failed(graval_status status, const char *what) {
  std::fprintf(stderr, "graval bench: %s: %s\n", what, graval_status_name(status));
  return EXIT_FAILED;
}

/// UTC.
std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[16];
  std::strftime(text, sizeof text, "%Y-%m-%d", &parts);
  return text;
}

/// A whole proof beside what the card's copies and NVIDIA's library do in the same run.
int report_device(std::uint32_t index, const graval_device_info &info, const DeviceRates &rates, const graval_profile &p) {
  TimedProof timed;
  const graval_status status = prove_timed(p, std::int32_t(index), timed);
  if (status != GRAVAL_OK && status != GRAVAL_REFUSED) return failed(status, "the proof");
  const double block_bytes = double(p.n) * p.n, step_us = timed.walk_ms * 1e3 / p.steps, floor_us = block_bytes / rates.copy_gbps / 1e3;
  const double fill_tops = 2 * block_bytes * p.n * (p.blocks > 2 ? p.blocks - 2 : 0) / timed.fill_ms / 1e9;
  std::printf("%s\n", Json().text("bench", "device").text("card", info.name).text("driver", rates.driver).number("memory_bytes", info.memory_bytes).number("n", p.n)
                          .number("k", p.k).number("blocks", p.blocks).number("steps", p.steps).measure("filled_share", block_bytes * p.blocks / double(info.memory_bytes))
                          .measure("fill_seconds", timed.fill_ms / 1e3).measure("fill_tops", fill_tops).measure("library_tops", rates.library_tops)
                          .measure("fill_share_of_library", fill_tops / rates.library_tops).measure("copy_gb_per_second", rates.copy_gbps)
                          .measure("walk_seconds", timed.walk_ms / 1e3).measure("step_us", step_us).measure("step_floor_us", floor_us)
                          .measure("step_over_floor", step_us / floor_us).measure("host_block_us", rates.host_block_us).measure("host_gap", rates.host_block_us / step_us)
                          .measure("open_seconds", timed.open_ms / 1e3).number("openings_bytes", timed.openings_bytes).flag("verified", status == GRAVAL_OK)
                          .text("fault", graval_fault_name(timed.fault)).str().c_str());
  return status == GRAVAL_OK ? EXIT_YES : EXIT_REFUSED;
}

int bench_device(Args &args) {
  const std::uint32_t index = args.count("device", 0);
  graval_profile p = profile_of(args, {0, 0, 0, 20000, 128, 128});
  const std::int64_t sold = args.number("vram-bytes", 0, std::int64_t(1) << 50);
  if (args.has("calibrate") && args.text("type").empty()) args.fail("--calibrate needs --type, the ref of the GPU table the row is for");
  if (sold < 0) args.fail("--vram-bytes is negative");
  if (!args.error().empty()) return EXIT_USAGE;
  graval_device_info info{};
  if (const graval_status status = graval_device(index, &info)) return failed(status, "no NVIDIA GPU of this number");
  const std::uint64_t vram_bytes = sold > 0 ? std::uint64_t(sold) : info.memory_bytes;
  if (p.n == 0) p.n = edge_for(vram_bytes);
  if (p.blocks == 0) p.blocks = std::uint32_t(blocks_for(vram_bytes, p.n));
  DeviceRates rates{};
  if (const graval_status status = measure_rates(index, std::uint64_t(p.n) * p.n, rates)) return failed(status, "measuring the card");
  const std::uint64_t filled = std::uint64_t(p.n) * p.n * p.blocks;
  if (filled > rates.free_bytes) {
    std::fprintf(stderr, "graval bench: %u blocks are %.1f GB, and %.1f GB of device %u are free\n", p.blocks, double(filled) / 1e9, double(rates.free_bytes) / 1e9, index);
    return EXIT_FAILED;
  }
  Calibration asked{args.text("type"), info.name, rates.driver, today(), rates.copy_gbps, rates.host_block_us, p, std::int32_t(index), 15};
  if (!args.has("calibrate")) {
    double probed_us = 0;
    if (const graval_status status = choose_k(asked, probed_us)) return failed(status, "the choice of k");
    return report_device(index, info, rates, asked.profile);
  }
  std::string row;
  if (const graval_status status = calibrate(asked, row)) return failed(status, "the proof");
  std::printf("%s\n", row.c_str());
  return EXIT_YES;
}
#endif

}  // namespace

graval_profile profile_of(Args &args, const graval_profile &otherwise) {
  return {args.count("n", otherwise.n), args.count("k", otherwise.k), args.count("blocks", otherwise.blocks), args.count("steps", otherwise.steps),
          args.count("fill-samples", otherwise.fill_samples), args.count("walk-samples", otherwise.walk_samples)};
}

int run_bench(Args &args) {
  if (args.has("verify")) return bench_verifier(args);
#ifdef GRAVAL_CUDA
  return bench_device(args);
#else
  if (!args.error().empty()) return EXIT_USAGE;
  std::fprintf(stderr, "graval bench: built without CUDA; --verify measures the verifier\n");
  return EXIT_FAILED;
#endif
}

}  // namespace graval
