#include "serve.hpp"

#include <cerrno>
#include <new>
#include <unistd.h>

#include "bytes.hpp"
#include "hashes.hpp"
#include "proof_file.hpp"

namespace graval {
namespace {

std::vector<std::uint8_t> reply(graval_status status, const std::vector<std::uint8_t> &body) {
  std::vector<std::uint8_t> out;
  put_u32(out, std::uint32_t(1 + body.size()));
  out.push_back(std::uint8_t(status));
  put_bytes(out, body.data(), body.size());
  return out;
}

/// Multiply-adds of a whole proof; saturates.
std::uint64_t work_of(const graval_profile &p) noexcept {
  const double exact = double(p.n) * p.n * (double(p.n) * p.blocks + double(p.k) * p.steps);
  return exact >= 1.8e19 ? ~std::uint64_t(0) : std::uint64_t(exact);
}

/// All of `size`, or false at the end of the input.
bool read_all(int from, std::uint8_t *out, std::size_t size) {
  while (size > 0) {
    const ssize_t got = ::read(from, out, size);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out += got;
    size -= std::size_t(got);
  }
  return true;
}

bool write_all(int to, const std::uint8_t *data, std::size_t size) {
  while (size > 0) {
    const ssize_t sent = ::write(to, data, size);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    data += sent;
    size -= std::size_t(sent);
  }
  return true;
}

}  // namespace

std::uint32_t ServeSession::limit_of(std::uint8_t verb) const noexcept {
  if (verb < SERVE_BEGIN || verb > SERVE_SELFTEST) return 0;
  return verb == SERVE_VERIFY ? limits_.verify_bytes : limits_.request_bytes;
}

std::vector<std::uint8_t> ServeSession::answer(const ServeFrame &frame) noexcept {
  try {
    std::vector<std::uint8_t> body;
    const graval_status status = frame.version == SERVE_VERSION ? dispatch(frame, body) : GRAVAL_INVALID_ARGUMENT;
    return reply(status, body);
  } catch (...) {  // only allocation throws here
    return reply(GRAVAL_OUT_OF_MEMORY, {});
  }
}

graval_status ServeSession::dispatch(const ServeFrame &frame, std::vector<std::uint8_t> &body) {
  switch (frame.verb) {
    case SERVE_BEGIN: return begin(frame.body, frame.size);
    case SERVE_COMMIT: {
      if (frame.size != 0) return GRAVAL_INVALID_ARGUMENT;
      if (!prover_) return GRAVAL_OUT_OF_ORDER;
      std::uint8_t root[32];
      const graval_status status = graval_commit(prover_, root);
      if (status == GRAVAL_OK) put_bytes(body, root, 32);
      return status;
    }
    case SERVE_WALK: {
      if (frame.size != 32) return GRAVAL_INVALID_ARGUMENT;
      if (!prover_) return GRAVAL_OUT_OF_ORDER;
      std::uint8_t ends[64];
      const graval_status status = graval_walk(prover_, frame.body, ends, ends + 32);
      if (status == GRAVAL_OK) put_bytes(body, ends, 64);
      return status;
    }
    case SERVE_OPEN: return open(frame.body, frame.size, body);
    case SERVE_END:
      if (frame.size != 0) return GRAVAL_INVALID_ARGUMENT;
      graval_destroy(prover_);
      prover_ = nullptr;
      return GRAVAL_OK;
    case SERVE_VERIFY: return verify(frame.body, frame.size, body);
    case SERVE_SELFTEST: {
      ByteReader in(frame.body, frame.size);
      const auto device = std::int32_t(in.u32());
      if (in.failed() || in.left() != 0 || device < -1) return GRAVAL_INVALID_ARGUMENT;
      return limits_.multiply_adds == ~std::uint64_t(0) ? graval_selftest(device) : GRAVAL_OUT_OF_MEMORY;
    }
    default: return GRAVAL_INVALID_ARGUMENT;
  }
}

graval_status ServeSession::begin(const std::uint8_t *data, std::size_t size) {
  ByteReader in(data, size);
  const auto device = std::int32_t(in.u32());
  graval_profile p{};
  for (std::uint32_t *field : {&p.n, &p.k, &p.blocks, &p.steps, &p.fill_samples, &p.walk_samples}) *field = in.u32();
  const std::uint8_t *seed = in.take(32);
  if (in.failed() || in.left() != 0 || !is_sound(p)) return GRAVAL_INVALID_ARGUMENT;
  if (prover_) return GRAVAL_OUT_OF_ORDER;
  if (device == -1) {
    std::uint64_t bytes = 0;
    const graval_status status = graval_prover_bytes(&p, device, &bytes);
    if (status != GRAVAL_OK) return status;
    if (bytes > limits_.memory_bytes || work_of(p) > limits_.multiply_adds) return GRAVAL_OUT_OF_MEMORY;
  }
  profile_ = p;
  return graval_begin(&p, seed, device, &prover_);
}

graval_status ServeSession::open(const std::uint8_t *data, std::size_t size, std::vector<std::uint8_t> &body) {
  if (!prover_) return GRAVAL_OUT_OF_ORDER;
  ByteReader in(data, size);
  if (size != 12ull * (std::uint64_t(profile_.fill_samples) + profile_.walk_samples)) return GRAVAL_INVALID_ARGUMENT;
  std::vector<graval_fill_sample> fill(profile_.fill_samples);
  std::vector<graval_walk_sample> walk(profile_.walk_samples);
  for (graval_fill_sample &s : fill) s.block = in.u32(), s.row = in.u32(), s.column = in.u32();
  for (graval_walk_sample &s : walk) s.step = in.u32(), s.row = in.u32(), s.column = in.u32();
  std::size_t room = 0;
  graval_status status = graval_open(prover_, fill.data(), fill.size(), walk.data(), walk.size(), nullptr, &room);
  if (status != GRAVAL_OK) return status;
  if (room >= 0xffffffffu) return GRAVAL_BUFFER_TOO_SMALL;
  body.resize(room);
  status = graval_open(prover_, fill.data(), fill.size(), walk.data(), walk.size(), body.data(), &room);
  if (status != GRAVAL_OK) body.clear();
  return status;
}

graval_status ServeSession::verify(const std::uint8_t *data, std::size_t size, std::vector<std::uint8_t> &body) {
  ProofFile proof;
  if (!parse_proof(data, size, proof)) return GRAVAL_INVALID_ARGUMENT;
  if (std::uint64_t(proof.claim.profile.n) * proof.claim.profile.k > limits_.multiply_adds) return GRAVAL_OUT_OF_MEMORY;
  // vectors may be empty: the verifier wants addresses all the same
  const graval_fill_sample no_fill{};
  const graval_walk_sample no_walk{};
  graval_fault fault = GRAVAL_FAULT_NONE;
  const graval_status status =
      graval_verify(&proof.claim, proof.fill.empty() ? &no_fill : proof.fill.data(), proof.fill.size(), proof.walk.empty() ? &no_walk : proof.walk.data(),
                    proof.walk.size(), proof.openings.data(), proof.openings.size(), &fault);
  if (status == GRAVAL_REFUSED) body.push_back(std::uint8_t(fault));
  return status;
}

int serve(int in, int out, const ServeLimits &limits) {
  ServeSession session(limits);
  std::vector<std::uint8_t> body;
  std::uint8_t head[6];  // u32 length of what follows it, version, verb
  while (read_all(in, head, sizeof head)) {
    const std::uint32_t length = ByteReader(head, 4).u32();
    const std::uint32_t limit = session.limit_of(head[5]);
    if (length < 2 || length > (limit == 0 ? limits.request_bytes : limit)) {
      const std::vector<std::uint8_t> refusal = reply(GRAVAL_INVALID_ARGUMENT, {});
      write_all(out, refusal.data(), refusal.size());
      return 65;
    }
    body.clear();
    for (std::size_t left = length - 2; left > 0;) {  // grows with what arrives, not with what was announced
      const std::size_t part = left < (1u << 20) ? left : (1u << 20);
      body.resize(body.size() + part);
      if (!read_all(in, body.data() + body.size() - part, part)) return 0;
      left -= part;
    }
    const std::vector<std::uint8_t> answered = session.answer({head[4], head[5], body.data(), body.size()});
    if (!write_all(out, answered.data(), answered.size())) return 0;
  }
  return 0;
}

}  // namespace graval
