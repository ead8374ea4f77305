#include "timed_proof.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "json.hpp"
#include "scatter.hpp"

namespace graval {
namespace {

constexpr double MOST_OVER_FLOOR = 1.3, LIMIT = 1.25, FILL_MARGIN_MS = 1000;
constexpr std::uint32_t SAMPLES = 128, LEAST_ROUNDS = 20;
/// A step's time shows on a few blocks, as long as no cache holds them.
constexpr std::uint32_t PROBE_BLOCKS = 8, PROBE_STEPS = 1000;

double now_ms() { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// What reading a block takes at the rate of a copy.
double floor_us(const Calibration &asked) { return double(asked.profile.n) * asked.profile.n / asked.copy_gbps / 1e3; }

graval_status step_time(const Calibration &asked, std::uint32_t k, double &us) {
  TimedProof timed;
  const graval_status status = prove_timed({asked.profile.n, k, std::min(PROBE_BLOCKS, asked.profile.blocks), PROBE_STEPS, 2, 2}, asked.device, timed);
  us = timed.walk_ms * 1e3 / PROBE_STEPS;
  return status;
}

}  // namespace

graval_status choose_k(Calibration &asked, double &step_us) {
  if (asked.profile.k != 0) return step_time(asked, asked.profile.k, step_us);
  for (const std::uint32_t width : {256u, 128u, 64u}) {  // the narrowest where none is near the floor
    if (const graval_status status = step_time(asked, asked.profile.k = width, step_us)) return status;
    if (step_us <= MOST_OVER_FLOOR * floor_us(asked)) break;
  }
  return GRAVAL_OK;
}

graval_status prove_timed(const graval_profile &p, std::int32_t device, TimedProof &out) {
  graval_claim claim{};
  claim.profile = p;
  claim.seed[0] = 1, claim.nonce2[0] = 2;
  std::vector<graval_fill_sample> fill;
  std::vector<graval_walk_sample> walk;
  for (std::uint32_t s = 0; s < p.fill_samples; s++) fill.push_back({scatter(3 * s) % p.blocks, scatter(3 * s + 1) % p.n, scatter(3 * s + 2) % p.n});
  for (std::uint32_t s = 0; s < p.walk_samples; s++)
    walk.push_back({s == 0 ? 0 : s == 1 ? p.steps - 1 : scatter(s) % p.steps, scatter(5 * s + 1) % p.n, scatter(5 * s + 2) % p.k});
  graval_prover *raw = nullptr;
  if (const graval_status status = graval_begin(&p, claim.seed, device, &raw)) return status;
  const std::unique_ptr<graval_prover, void (*)(graval_prover *)> prover(raw, graval_destroy);
  const double began = now_ms();
  if (const graval_status status = graval_commit(raw, claim.root)) return status;
  const double filled = now_ms();
  if (const graval_status status = graval_walk(raw, claim.nonce2, claim.digest, claim.trace_root)) return status;
  const double walked = now_ms();
  if (const graval_status status = graval_open(raw, fill.data(), fill.size(), walk.data(), walk.size(), nullptr, &out.openings_bytes)) return status;
  std::vector<std::uint8_t> openings(out.openings_bytes);
  if (const graval_status status = graval_open(raw, fill.data(), fill.size(), walk.data(), walk.size(), openings.data(), &out.openings_bytes)) return status;
  out.fill_ms = filled - began, out.walk_ms = walked - filled, out.open_ms = now_ms() - walked;
  return graval_verify(&claim, fill.data(), fill.size(), walk.data(), walk.size(), openings.data(), openings.size(), &out.fault);
}

std::uint32_t edge_for(std::uint64_t vram_bytes) { return vram_bytes <= 48'000'000'000ull ? 8192 : 16384; }

std::uint64_t blocks_for(std::uint64_t vram_bytes, std::uint32_t n) {
  const std::uint64_t hundred_blocks = 100ull * n * n;
  return (vram_bytes * 95 + hundred_blocks - 1) / hundred_blocks;
}

std::uint32_t steps_for(std::uint32_t blocks, double step_us, double seconds) {
  return std::uint32_t(std::min(std::max(seconds * 1e6 / step_us, double(LEAST_ROUNDS) * blocks), double(1u << 20)));
}

graval_status calibrate(Calibration asked, std::string &row) {
  double probed_us = 0;
  if (const graval_status status = choose_k(asked, probed_us)) return status;
  graval_profile p = asked.profile;
  p.steps = steps_for(p.blocks, probed_us, asked.walk_seconds);
  p.fill_samples = p.walk_samples = SAMPLES;
  TimedProof timed;
  if (const graval_status status = prove_timed(p, asked.device, timed)) return status;
  const double step_us = timed.walk_ms * 1e3 / p.steps;
  const double operations = 2.0 * std::pow(double(p.n), 3) * (p.blocks > 2 ? p.blocks - 2 : 0);
  row = Json().text("gpu", asked.type).number("n", p.n).number("k", p.k).number("blocks", p.blocks).number("steps", p.steps).number("fill_samples", p.fill_samples)
            .number("walk_samples", p.walk_samples).number("fill_limit_ms", std::uint64_t(std::ceil(LIMIT * timed.fill_ms + FILL_MARGIN_MS)))
            .number("walk_limit_ms", std::uint64_t(std::ceil(LIMIT * timed.walk_ms)))
            .raw("measured", Json().text("card", asked.card).text("driver", asked.driver).text("date", asked.date).measure("fill_ms", timed.fill_ms)
                                 .measure("walk_step_us", step_us).measure("int8_tops", operations / timed.fill_ms / 1e9).measure("copy_gbps", asked.copy_gbps)
                                 .measure("host_gap", asked.host_block_us / step_us).str()).str();
  return GRAVAL_OK;
}

}  // namespace graval
