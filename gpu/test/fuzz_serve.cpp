// Any bytes as what a caller writes to `graval serve`: verb, length and body of one request after another.
#include <cstdint>
#include <cstdlib>

#include "serve.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  graval::ServeLimits limits;
  limits.memory_bytes = 1u << 17;
  limits.multiply_adds = 1u << 16;
  graval::ServeSession session(limits);
  while (size >= 6) {
    const std::uint32_t length = std::uint32_t(data[0]) | std::uint32_t(data[1]) << 8 | std::uint32_t(data[2]) << 16 | std::uint32_t(data[3]) << 24;
    if (length < 2 || length > session.limit_of(data[5])) break;
    const std::size_t body = length - 2 < size - 6 ? length - 2 : size - 6;
    const std::vector<std::uint8_t> reply = session.answer({data[4], data[5], data + 6, body});
    if (reply.size() < 5 || reply[4] > GRAVAL_REFUSED) std::abort();
    const std::size_t told = std::size_t(reply[0]) | std::size_t(reply[1]) << 8 | std::size_t(reply[2]) << 16 | std::size_t(reply[3]) << 24;
    if (told + 4 != reply.size()) std::abort();
    data += 6 + body;
    size -= 6 + body;
  }
  return 0;
}
