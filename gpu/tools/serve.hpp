#pragma once
// `graval serve`: a prover and verifier behind frames on stdin and stdout (docs/proof.md "Serve protocol").
#include <cstddef>
#include <cstdint>
#include <vector>

#include "graval.h"

namespace graval {

constexpr std::uint8_t SERVE_VERSION = 2;

enum ServeVerb : std::uint8_t { SERVE_BEGIN = 1, SERVE_COMMIT = 2, SERVE_WALK = 3, SERVE_OPEN = 4, SERVE_END = 5, SERVE_VERIFY = 6, SERVE_SELFTEST = 7 };

/// What a caller may cost; the fuzzer sets them low.
struct ServeLimits {
  std::uint64_t memory_bytes = GRAVAL_REFERENCE_LIMIT;   // of a prover on the CPU
  std::uint64_t multiply_adds = ~std::uint64_t(0);       // of one whole proof on the CPU
  std::uint32_t request_bytes = 1u << 20;                // of any request but verify
  std::uint32_t verify_bytes = 256u << 20;
};

struct ServeFrame {
  std::uint8_t version;
  std::uint8_t verb;
  const std::uint8_t *body;
  std::size_t size;
};

/// One prover at most; requests in, replies out, no I/O of its own.
class ServeSession {
 public:
  explicit ServeSession(const ServeLimits &limits = {}) : limits_(limits) {}
  ~ServeSession() { graval_destroy(prover_); }
  ServeSession(const ServeSession &) = delete;
  ServeSession &operator=(const ServeSession &) = delete;

  /// The most bytes a frame of this verb may have after its length field; 0: no such verb.
  std::uint32_t limit_of(std::uint8_t verb) const noexcept;
  /// The whole reply: u32 length, status, body. Never throws for what a caller sent.
  std::vector<std::uint8_t> answer(const ServeFrame &frame) noexcept;

 private:
  graval_status dispatch(const ServeFrame &frame, std::vector<std::uint8_t> &body);
  graval_status begin(const std::uint8_t *data, std::size_t size);
  graval_status open(const std::uint8_t *data, std::size_t size, std::vector<std::uint8_t> &body);
  graval_status verify(const std::uint8_t *data, std::size_t size, std::vector<std::uint8_t> &body);

  ServeLimits limits_;
  graval_profile profile_{};
  graval_prover *prover_ = nullptr;
};

/// Reads frames until the input ends (returns 0) or a frame cannot be told from the next (answers invalid_argument, returns 65).
int serve(int in, int out, const ServeLimits &limits);

}  // namespace graval
