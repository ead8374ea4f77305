// Drives a libFuzzer target where there is no libFuzzer: seeded mutations of a corpus for a number of seconds. Without coverage it
// is no equal of libFuzzer, but it repeats exactly. usage: SECONDS SEED CORPUS_DIR
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes mutate(Bytes bytes, const std::vector<Bytes> &corpus, std::mt19937 &random) {
  const auto below = [&](std::size_t limit) { return limit == 0 ? 0 : std::size_t(random()) % limit; };
  for (std::size_t changes = 1 + below(4); changes > 0; changes--) {
    // half of the changes fall on the header, where the meaning is densest
    const std::size_t at = below(random() % 2 ? bytes.size() : bytes.size() < 200 ? bytes.size() : 200);
    switch (random() % 8) {
      case 0: bytes.resize(below(bytes.size() + 1)); break;
      case 1: bytes.resize(bytes.size() + below(40), std::uint8_t(random())); break;
      case 2: if (!bytes.empty()) bytes[at] ^= std::uint8_t(1u << (random() % 8)); break;
      case 3: if (!bytes.empty()) bytes[at] = std::uint8_t(random()); break;
      case 4: {
        static const std::uint32_t edges[] = {0, 1, 2, 3, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe, 131072, 131073, 4096, 4097, 65536, 1u << 20};
        const std::uint32_t value = edges[random() % (sizeof edges / sizeof *edges)];
        for (std::size_t i = 0; i < 4 && at + i < bytes.size(); i++) bytes[at + i] = std::uint8_t(value >> (8 * i));
        break;
      }
      case 5: bytes.erase(bytes.begin() + std::ptrdiff_t(at), bytes.begin() + std::ptrdiff_t(at + below(bytes.size() - at + 1))); break;
      case 6: {
        const Bytes &other = corpus[below(corpus.size())];
        const std::size_t from = below(other.size()), count = below(other.size() - from + 1);
        bytes.insert(bytes.begin() + std::ptrdiff_t(at), other.begin() + std::ptrdiff_t(from), other.begin() + std::ptrdiff_t(from + count));
        break;
      }
      default: if (!bytes.empty()) bytes[at] = std::uint8_t(bytes[at] + (random() % 2 ? 1 : 255)); break;
    }
    if (bytes.size() > (1u << 16)) bytes.resize(1u << 16);
  }
  return bytes;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 4) return 64;
  std::vector<Bytes> corpus;
  for (const auto &entry : std::filesystem::directory_iterator(argv[3])) {
    std::ifstream file(entry.path(), std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    LLVMFuzzerTestOneInput(corpus.back().data(), corpus.back().size());
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "no corpus in %s\n", argv[3]);
    return 1;
  }
  std::mt19937 random(static_cast<std::uint32_t>(std::atol(argv[2])));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atol(argv[1]));
  std::size_t runs = 0;
  for (; std::chrono::steady_clock::now() < end; runs++) {
    const Bytes bytes = mutate(corpus[random() % corpus.size()], corpus, random);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%zu inputs, no defect\n", runs);
  return 0;
}
