// graval: the program of the open proof of GPU work. It is called as a process of its own, so that a crash is a failed attempt.
#include <cstdio>
#include <csignal>
#include <exception>
#include <map>
#include <string>
#include <unistd.h>

#include "commands.hpp"
#include "graval.h"
#include "json.hpp"
#include "serve.hpp"

using namespace graval;

namespace {

struct Command {
  const char *name, *help;
  int (*run)(Args &);
  std::map<std::string, bool> options;  // name: whether it takes a value
};

int usage(const std::string &why) {
  std::fprintf(stderr, "graval: %s\nTry: graval --help\n", why.c_str());
  return EXIT_USAGE;
}

int run_info(Args &args) {
  if (!args.error().empty()) return EXIT_USAGE;
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

int run_selftest(Args &args) {
  const auto device = std::int32_t(args.number("device", -1));
  const std::uint32_t rounds = args.count("rounds", 0);
  if (!args.error().empty()) return EXIT_USAGE;
  std::uint32_t passed = 0;
  graval_status status = graval_selftest(device);
  if (status == GRAVAL_OK) status = graval_selftest_rounds(device, rounds, &passed);
  std::printf("selftest on device %d, %u of %u drawn instances: %s\n", device, passed, rounds, graval_status_name(status));
  return status == GRAVAL_OK ? EXIT_YES : EXIT_FAILED;
}

int run_serve(Args &args) {
  ServeLimits limits;
  limits.memory_bytes = std::uint64_t(args.count("memory-mib", std::uint32_t(limits.memory_bytes >> 20))) << 20;
  if (!args.error().empty()) return EXIT_USAGE;
  // a library or driver that prints must not get into the frames
  const int out = ::dup(STDOUT_FILENO);
  if (out < 0 || ::dup2(STDERR_FILENO, STDOUT_FILENO) < 0) return EXIT_FAILED;
  return serve(STDIN_FILENO, out, limits);
}

const Command COMMANDS[] = {
    {"verify",
     "  graval verify FILE|- [--json]           checks a recorded proof (docs/proof.md \"Proof file\") on this CPU: in words on stderr, unless\n"
     "                                          --json, and as JSON on stdout; exit 0: it holds, 2: refused, 64: no proof file\n",
     run_verify, {{"json", false}}},
    {"info", "  graval info [--json]                    this build and the devices it can prove with\n", run_info, {{"json", false}}},
    {"selftest",
     "  graval selftest [--device D --rounds N] small proofs on device D (default -1: CPU) against the reference: five, and N drawn ones\n",
     run_selftest, {{"device", true}, {"rounds", true}}},
    {"serve", "  graval serve [--memory-mib N]           prover and verifier behind frames on stdin and stdout\n", run_serve, {{"memory-mib", true}}},
    {"vectors",
     "  graval vectors [--seed H --nonce2 H --n N --k K --blocks M --steps T --device D]\n"
     "                                          the shared answers, as JSON\n",
     run_vectors,
     {{"device", true}, {"n", true}, {"k", true}, {"blocks", true}, {"steps", true}, {"seed", true}, {"nonce2", true}, {"fill-samples", true}, {"walk-samples", true}}},
    {"bench",
     "  graval bench --verify [--gpus G --threads N --rounds R, profile options, --fill-samples S --walk-samples S]\n"
     "                                          CPU time and bytes of verifying a proof of full size, as JSON\n"
     "  graval bench [--device D --n N --k K --blocks M --steps T]\n"
     "                                          rates and times of a GPU, as JSON\n"
     "  graval bench --calibrate --type REF [--device D --vram-bytes V --n N --k K --blocks M]\n"
     "                                          proves with the sold V bytes (default: all there is) and prints the row of\n"
     "                                          gpu/profiles.json for GPUs of this type; about a minute\n",
     run_bench,
     {{"device", true}, {"n", true}, {"k", true}, {"blocks", true}, {"steps", true}, {"fill-samples", true}, {"walk-samples", true}, {"verify", false}, {"gpus", true},
      {"threads", true}, {"rounds", true}, {"calibrate", false}, {"type", true}, {"vram-bytes", true}}},
};

int run(int argc, char **argv) {
  const std::string name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h" || name == "help") {
    std::printf("graval: the open proof of GPU work and memory, %s (docs/proof.md)\n\n", GRAVAL_PROOF_VERSION);
    for (const Command &command : COMMANDS) std::fputs(command.help, stdout);
    return EXIT_YES;
  }
  for (const Command &command : COMMANDS) {
    if (name != command.name) continue;
    for (int i = 2; i < argc; i++)
      if (std::string(argv[i]) == "--help") {
        std::fputs(command.help, stdout);
        return EXIT_YES;
      }
    Args args(argc - 2, argv + 2, command.options);
    const int code = command.run(args);
    return code == EXIT_USAGE && !args.error().empty() ? usage(args.error()) : code;
  }
  return usage(name.empty() ? "which command?" : "unknown command " + name);
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
