// graval: the program of the open proof of GPU work. It is called as a process of its own, so that a crash is a failed attempt.
#include <cstdio>
#include <csignal>
#include <exception>
#include <map>
#include <string>
#include <unistd.h>
#include <vector>

#include "commands.hpp"
#include "graval.h"
#include "json.hpp"
#include "proof_file.hpp"
#include "serve.hpp"

using namespace graval;

namespace {

const char HELP[] =
    "graval: the open proof of GPU work and memory (docs/proof.md)\n"
    "\n"
    "  graval info [--json]                    this build and the devices it can prove with\n"
    "  graval verify FILE|-                    checks a recorded proof; 0: it holds, 2: refused, 64: no proof file\n"
    "  graval selftest [--device D]            a small proof on device D (default -1: CPU) against the reference\n"
    "  graval serve [--memory-mib N]           prover and verifier behind frames on stdin and stdout\n"
    "  graval vectors [--seed H --nonce2 H --n N --k K --blocks M --steps T --device D]\n"
    "                                          the shared answers, as JSON\n"
    "  graval bench --verify [--gpus G --threads N --rounds R, profile options, --fill-samples S --walk-samples S]\n"
    "                                          CPU time and bytes of verifying a proof of full size, as JSON\n"
    "  graval bench [--device D --n N --k K --blocks M --steps T --calibrate]\n"
    "                                          rates and times of a GPU as JSON; --calibrate adds a row of the profile table\n";

int usage(const std::string &why) {
  std::fprintf(stderr, "graval: %s\nTry: graval --help\n", why.c_str());
  return EXIT_USAGE;
}

int run_info(Args &args) {
  if (!args.error().empty()) return usage(args.error());
  std::uint32_t count = 0;
  graval_device_count(&count);
  std::string devices;
  for (std::uint32_t i = 0; i < count; i++) {
    graval_device_info info{};
    if (graval_device(i, &info) != GRAVAL_OK) continue;
    if (args.has("json"))
      devices += (devices.empty() ? "" : ",") + Json().number("index", i).text("name", info.name).text("uuid", info.uuid).number("memory_bytes", info.memory_bytes)
                                                    .number("processors", info.processors).number("clock_khz", info.clock_khz).number("major", info.major)
                                                    .number("minor", info.minor).number("max_threads_per_processor", info.max_threads_per_processor).str();
    else
      std::printf("device %u: %s, %s, %.1f GiB, compute %u.%u\n", i, info.name, info.uuid, double(info.memory_bytes) / (1u << 30), info.major, info.minor);
  }
#ifdef GRAVAL_CUDA
  const bool cuda = true;
#else
  const bool cuda = false;
#endif
  if (args.has("json"))
    std::printf("%s\n", Json().number("abi_version", graval_abi_version()).number("serve_version", SERVE_VERSION).text("proof_version", GRAVAL_PROOF_VERSION)
                            .flag("cuda", cuda).raw("devices", "[" + devices + "]").str().c_str());
  else
    std::printf("%s, interface %u, %s; %u device(s)\n", GRAVAL_PROOF_VERSION, graval_abi_version(), cuda ? "with CUDA" : "CPU only", count);
  return EXIT_YES;
}

bool read_whole(const std::string &file, std::vector<std::uint8_t> &out) {
  std::FILE *from = file == "-" ? stdin : std::fopen(file.c_str(), "rb");
  if (!from) return false;
  const std::size_t limit = ServeLimits{}.verify_bytes;
  std::uint8_t part[65536];
  for (std::size_t got; out.size() <= limit && (got = std::fread(part, 1, sizeof part, from)) > 0;) out.insert(out.end(), part, part + got);
  const bool whole = std::ferror(from) == 0 && out.size() <= limit;
  if (from != stdin) std::fclose(from);
  return whole;
}

int run_verify(Args &args) {
  if (args.file().empty()) args.fail("verify needs a file, or - for stdin");
  if (!args.error().empty()) return usage(args.error());
  std::vector<std::uint8_t> bytes;
  ProofFile proof;
  if (!read_whole(args.file(), bytes)) return usage("cannot read " + args.file() + ", or it is larger than any proof");
  if (!parse_proof(bytes.data(), bytes.size(), proof)) return usage(args.file() + " is no proof file");
  proof.fill.reserve(1);  // an address even when empty
  proof.walk.reserve(1);
  graval_fault fault = GRAVAL_FAULT_NONE;
  const graval_status status = graval_verify(&proof.claim, proof.fill.data(), proof.fill.size(), proof.walk.data(), proof.walk.size(),
                                             proof.openings.data(), proof.openings.size(), &fault);
  if (status == GRAVAL_OK)
    std::printf("%s\n", Json().flag("verified", true).number("samples", proof.fill.size() + proof.walk.size()).str().c_str());
  else if (status == GRAVAL_REFUSED)
    std::printf("%s\n", Json().flag("verified", false).text("reason", graval_fault_name(fault)).str().c_str());
  else
    std::fprintf(stderr, "graval verify: %s\n", graval_status_name(status));
  return status == GRAVAL_OK ? EXIT_YES : status == GRAVAL_REFUSED ? EXIT_REFUSED : EXIT_FAILED;
}

int run_selftest(Args &args) {
  const auto device = std::int32_t(args.number("device", -1));
  if (!args.error().empty()) return usage(args.error());
  const graval_status status = graval_selftest(device);
  std::printf("selftest on device %d: %s\n", device, graval_status_name(status));
  return status == GRAVAL_OK ? EXIT_YES : EXIT_FAILED;
}

int run_serve(Args &args) {
  ServeLimits limits;
  limits.memory_bytes = std::uint64_t(args.count("memory-mib", std::uint32_t(limits.memory_bytes >> 20))) << 20;
  if (!args.error().empty()) return usage(args.error());
  // a library or driver that prints must not get into the frames
  const int out = ::dup(STDOUT_FILENO);
  if (out < 0 || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return EXIT_FAILED;
  return serve(STDIN_FILENO, out, limits);
}

int run(int argc, char **argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  const auto with = [&](const std::map<std::string, bool> &spec) { return Args(argc - 2, argv + 2, spec); };
  if (command == "--help" || command == "-h" || command == "help") {
    std::fputs(HELP, stdout);
    return EXIT_YES;
  }
  int code = -1;
  Args args = command == "info" ? with({{"json", false}})
              : command == "verify" ? with({})
              : command == "selftest" ? with({{"device", true}})
              : command == "serve" ? with({{"memory-mib", true}})
                : with({{"device", true}, {"n", true}, {"k", true}, {"blocks", true}, {"steps", true}, {"seed", true}, {"nonce2", true}, {"fill-samples", true},
                        {"walk-samples", true}, {"verify", false}, {"gpus", true}, {"threads", true}, {"rounds", true}, {"calibrate", false}, {"json", false}});
  if (command == "info") code = run_info(args);
  else if (command == "verify") code = run_verify(args);
  else if (command == "selftest") code = run_selftest(args);
  else if (command == "serve") code = run_serve(args);
  else if (command == "vectors") code = run_vectors(args);
  else if (command == "bench") code = run_bench(args);
  else return usage(command.empty() ? "which command?" : "unknown command " + command);
  return code == EXIT_USAGE && !args.error().empty() ? usage(args.error()) : code;
}

}  // namespace

int main(int argc, char **argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return run(argc, argv);
  } catch (const std::exception &err) {
    std::fprintf(stderr, "graval: %s\n", err.what());
    return EXIT_FAILED;
  }
}
