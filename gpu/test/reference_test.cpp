// The reference against the published vectors, and the verifier against proofs changed in every place.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "arithmetic.hpp"
#include "bytes.hpp"
#include "chacha20.hpp"
#include "foresight.hpp"
#include "graval.h"
#include "hashes.hpp"
#include "merkle.hpp"
#include "serve.hpp"
#include "timed_proof.hpp"

using namespace graval;

namespace {

int failures = 0;

void check(bool holds, const std::string &what) {
  if (holds) return;
  failures++;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
}

struct QVector { std::int32_t sum; std::uint32_t block, row, column, fill_tweak; int fill; std::uint32_t walk_tweak; int walk; };
struct PartnerVector { std::uint32_t block, j; };
struct PrgVector { std::uint64_t offset; std::vector<int> entries; };
struct Vectors {
  const char *name;
  graval_profile profile;
  const char *seed, *root, *nonce2, *digest, *trace_root;
  std::vector<graval_fill_sample> fill;
  std::vector<graval_walk_sample> walk;
  std::vector<QVector> quantised;
  std::vector<PartnerVector> partner;
  std::vector<PrgVector> prg;
};

const std::vector<Vectors> VECTORS = {
#include "vectors.inc"
};

graval_fault verify(const ProofFile &proof) {
  graval_fault fault = GRAVAL_FAULT_NONE;
  // a copy of the exact size, so that a sanitizer sees any read outside
  const std::vector<std::uint8_t> openings(proof.openings);
  const graval_status status = graval_verify(&proof.claim, proof.fill.data(), proof.fill.size(), proof.walk.data(), proof.walk.size(), openings.data(),
                                             openings.size(), &fault);
  check((status == GRAVAL_OK) == (fault == GRAVAL_FAULT_NONE) && (status == GRAVAL_OK || status == GRAVAL_REFUSED), "status and fault agree");
  return fault;
}

ProofFile prove(const graval_profile &profile, const std::uint8_t *seed, const std::uint8_t *nonce2, const std::vector<graval_fill_sample> &fill,
                const std::vector<graval_walk_sample> &walk) {
  ProofFile proof;
  proof.claim.profile = profile;
  proof.fill = fill;
  proof.walk = walk;
  std::memcpy(proof.claim.seed, seed, 32);
  std::memcpy(proof.claim.nonce2, nonce2, 32);
  graval_prover *prover = nullptr;
  std::size_t size = 0;
  std::uint8_t ignored[32];
  check(graval_begin(&profile, seed, -1, &prover) == GRAVAL_OK, "begin");
  check(graval_walk(prover, nonce2, ignored, ignored) == GRAVAL_OUT_OF_ORDER, "walk before commit is out of order");
  check(graval_commit(prover, proof.claim.root) == GRAVAL_OK, "commit");
  check(graval_open(prover, fill.data(), fill.size(), walk.data(), walk.size(), nullptr, &size) == GRAVAL_OUT_OF_ORDER, "open before walk is out of order");
  check(graval_walk(prover, nonce2, proof.claim.digest, proof.claim.trace_root) == GRAVAL_OK, "walk");
  check(graval_open(prover, fill.data(), fill.size(), walk.data(), walk.size(), nullptr, &size) == GRAVAL_OK, "size");
  proof.openings.resize(size);
  std::size_t room = size - 1;
  check(graval_open(prover, fill.data(), fill.size(), walk.data(), walk.size(), proof.openings.data(), &room) == GRAVAL_BUFFER_TOO_SMALL && room == size, "a small buffer is told the size");
  check(graval_open(prover, fill.data(), fill.size(), walk.data(), walk.size(), proof.openings.data(), &size) == GRAVAL_OK, "open");
  graval_destroy(prover);
  return proof;
}

void test_vectors(const Vectors &v) {
  const std::string name = v.name;
  std::uint8_t seed[32], nonce2[32];
  check(from_hex(v.seed, seed, 32) && from_hex(v.nonce2, nonce2, 32), name + " is hex");
  for (const PrgVector &each : v.prg) {
    std::vector<std::int8_t> entries(each.entries.size());
    prg(seed, each.offset, entries.data(), entries.size());
    for (std::size_t i = 0; i < entries.size(); i++) check(entries[i] == each.entries[i], name + " prg");
  }
  for (const QVector &each : v.quantised) {
    check(fill_tweak(each.block, each.row, each.column) == each.fill_tweak && q(each.sum, each.fill_tweak) == each.fill, name + " q of a fill");
    check(walk_tweak(each.block, each.row, each.column) == each.walk_tweak && q(each.sum, each.walk_tweak) == each.walk, name + " q of a walk");
  }
  Hash previous;
  previous.fill(0xab);
  for (const PartnerVector &each : v.partner) check(partner_block(seed, each.block, previous) == each.j, name + " partner");
  const ProofFile proof = prove(v.profile, seed, nonce2, v.fill, v.walk);
  check(to_hex(proof.claim.root, 32) == v.root, name + " R");
  check(to_hex(proof.claim.digest, 32) == v.digest, name + " D");
  check(to_hex(proof.claim.trace_root, 32) == v.trace_root, name + " W");
  check(verify(proof) == GRAVAL_FAULT_NONE, name + " verifies");
}

/// Every bit of the claim and a bit of every byte of the openings; every length but the right one.
void test_changes(const Vectors &v) {
  std::uint8_t seed[32], nonce2[32];
  from_hex(v.seed, seed, 32);
  from_hex(v.nonce2, nonce2, 32);
  const ProofFile proof = prove(v.profile, seed, nonce2, v.fill, v.walk);
  for (std::size_t at = 0; at < proof.openings.size(); at++) {
    ProofFile changed = proof;
    changed.openings[at] ^= std::uint8_t(1u << (at % 8));
    check(verify(changed) != GRAVAL_FAULT_NONE, "openings changed at byte " + std::to_string(at) + " are refused");
  }
  for (std::size_t size = 0; size < proof.openings.size(); size++) {
    ProofFile cut = proof;
    cut.openings.resize(size);
    check(verify(cut) == GRAVAL_FAULT_OPENINGS_MALFORMED, "openings cut to " + std::to_string(size) + " are malformed");
  }
  ProofFile longer = proof;
  longer.openings.push_back(0);
  check(verify(longer) == GRAVAL_FAULT_OPENINGS_MALFORMED, "openings with a byte more are malformed");
  for (std::size_t bit = 0; bit < 8 * 32; bit++) {
    for (int field = 0; field < 5; field++) {
      ProofFile changed = proof;
      std::uint8_t *hashes[] = {changed.claim.seed, changed.claim.root, changed.claim.nonce2, changed.claim.digest, changed.claim.trace_root};
      hashes[field][bit / 8] ^= std::uint8_t(1u << (bit % 8));
      check(verify(changed) != GRAVAL_FAULT_NONE, "another claim is refused");
    }
  }
  for (int field = 0; field < 6; field++) {
    for (const std::uint32_t value : {0u, 1u, 0x7fffffffu, 0xffffffffu}) {
      ProofFile changed = proof;
      graval_profile &p = changed.claim.profile;
      std::uint32_t *fields[] = {&p.n, &p.k, &p.blocks, &p.steps, &p.fill_samples, &p.walk_samples};
      *fields[field] = value;
      check(verify(changed) != GRAVAL_FAULT_NONE, "another profile is refused");
    }
  }
  for (std::size_t i = 0; i < proof.fill.size(); i++) {
    ProofFile changed = proof;
    changed.fill[i].block = v.profile.blocks;
    check(verify(changed) == GRAVAL_FAULT_SAMPLES_MALFORMED, "a block outside is malformed");
  }
  ProofFile no_end = proof;
  for (graval_walk_sample &sample : no_end.walk) sample.step = 1;
  check(verify(no_end) == GRAVAL_FAULT_SAMPLES_MALFORMED, "samples without both ends are malformed");
}

/// FIPS 180-4 "abc" and a two-block message; 1000 lengths in two pieces equal one piece.
void test_sha256() {
  const auto hash = [](const std::string &text) { return to_hex(Sha256().update(text.data(), text.size()).finish().data(), 32); };
  check(hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "SHA-256 of abc");
  check(hash("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", "SHA-256 of two blocks");
  std::string text;
  for (std::size_t size = 0; size < 1000; size++, text += char(size * 31)) {
    Sha256 pieces;
    pieces.update(text.data(), size / 3).update(text.data() + size / 3, size - size / 3);
    check(pieces.finish() == Sha256().update(text.data(), size).finish(), "SHA-256 in pieces");
  }
}

void test_merkle() {
  for (std::size_t count = 1; count <= 40; count++) {
    std::vector<Hash> leaves(count);
    for (std::size_t i = 0; i < count; i++) leaves[i].fill(std::uint8_t(i));
    const MerkleTree tree(leaves);
    for (std::size_t i = 0; i < count; i++) {
      std::uint8_t path[32 * 8];
      const std::size_t length = std::size_t(tree.write_path(i, path) - path);
      check(length == 32 * merkle_path_length(i, count), "a path's length follows from index and count");
      check(root_from_path(leaves[i], i, count, path) == tree.root(), "a path leads to the root");
    }
  }
}

/// Full indices without a full prover: what is read at 80 GB size is inside the openings there too.
void test_foresight() {
  const graval_profile profile{256, 32, 284, 5000, 40, 40};
  ProofFile proof = prove_with_foresight(profile, 3);
  check(verify(proof) == GRAVAL_FAULT_NONE, "a prover that knew the samples passes");
  for (std::size_t at = 0; at < proof.openings.size(); at += 997) {
    ProofFile changed = proof;
    changed.openings[at] ^= 1;
    check(verify(changed) != GRAVAL_FAULT_NONE, "and is refused when changed");
  }
  const std::vector<std::uint8_t> file = write_proof(proof);
  ProofFile parsed;
  check(parse_proof(file.data(), file.size(), parsed) && write_proof(parsed) == file && verify(parsed) == GRAVAL_FAULT_NONE, "a proof file reads back");
  check(!parse_proof(file.data(), 100, parsed), "a cut header is no proof file");
  proof.fill[0].row = (proof.fill[0].row + 1) % profile.n;
  check(verify(proof) != GRAVAL_FAULT_NONE, "with other samples it has nothing to show");
}

void test_serve() {
  ServeSession session;
  const auto ask = [&](std::uint8_t verb, const std::vector<std::uint8_t> &body, std::uint8_t version = SERVE_VERSION) {
    return session.answer({version, verb, body.data(), body.size()});
  };
  const auto status_of = [](const std::vector<std::uint8_t> &reply) { return graval_status(reply.at(4)); };
  check(status_of(ask(SERVE_COMMIT, {})) == GRAVAL_OUT_OF_ORDER, "commit before begin is out of order");
  check(status_of(ask(SERVE_BEGIN, {1, 2, 3})) == GRAVAL_INVALID_ARGUMENT, "a short begin is invalid");
  check(status_of(ask(77, {})) == GRAVAL_INVALID_ARGUMENT, "an unknown verb is invalid");
  std::vector<std::uint8_t> begin;
  for (const std::uint32_t field : {0xffffffffu, 8u, 2u, 5u, 6u, 2u, 2u}) put_u32(begin, field);
  begin.resize(begin.size() + 32, 9);
  check(status_of(ask(SERVE_BEGIN, begin, SERVE_VERSION - 1)) == GRAVAL_INVALID_ARGUMENT, "another version is invalid");
  check(status_of(ask(SERVE_BEGIN, begin)) == GRAVAL_OK, "begin");
  check(status_of(ask(SERVE_BEGIN, begin)) == GRAVAL_OUT_OF_ORDER, "one prover at a time");
  check(ask(SERVE_COMMIT, {}).size() == 5 + 32, "commit answers R");
  check(ask(SERVE_WALK, std::vector<std::uint8_t>(32, 5)).size() == 5 + 64, "walk answers D and W");
  check(status_of(ask(SERVE_OPEN, std::vector<std::uint8_t>(48, 0xff))) == GRAVAL_INVALID_ARGUMENT, "samples outside are invalid");
  check(status_of(ask(SERVE_END, {})) == GRAVAL_OK && status_of(ask(SERVE_COMMIT, {})) == GRAVAL_OUT_OF_ORDER, "end frees the prover");
  begin[0] = begin[1] = begin[2] = begin[3] = 0;
  begin[4] = 0xff;
#ifndef GRAVAL_CUDA
  check(status_of(ask(SERVE_BEGIN, begin)) == GRAVAL_NO_DEVICE, "a device this build has not is refused");
#endif
}

/// What `graval bench --calibrate` makes of a card, here of the CPU with invented rates.
void test_calibration() {
  check(edge_for(24'000'000'000) == 8192 && edge_for(48'000'000'000) == 8192 && edge_for(80'000'000'000) == 16384, "n by memory");
  check(blocks_for(80'000'000'000, 16384) == 284 && blocks_for(24'000'000'000, 8192) == 340, "the blocks reach 95 % of the memory, and no block less would");
  check(blocks_for(140'000'000'000, 16384) * 16384 * 16384 * 100 >= 140'000'000'000 * 95, "at 141 GB too");
  check(steps_for(284, 100, 15) == 150000, "a walk of 15 s");
  check(steps_for(300, 10000, 15) == 6000, "at least 20 rounds of all blocks");
  check(steps_for(284, 0.001, 15) == 1u << 20, "never more steps than a proof may have");
  std::string row;
  // reading a block would take no time: no k is near that, the narrowest is left
  check(calibrate({"h100_sxm", "card", "580.1", "2030-01-02", 1e9, 5e6, {8, 0, 3, 0, 0, 0}, -1, 0.001}, row) == GRAVAL_OK, "calibrates");
  check(row.rfind("{\"gpu\":\"h100_sxm\",\"n\":8,\"k\":64,\"blocks\":3,\"steps\":", 0) == 0, "the row has the type and the profile: " + row);
  check(row.find("\"fill_samples\":128,\"walk_samples\":128,\"fill_limit_ms\":100") != std::string::npos, "a second and a quarter on top of the fill: " + row);
  check(row.find("\"measured\":{\"card\":\"card\",\"driver\":\"580.1\",\"date\":\"2030-01-02\",\"fill_ms\":") != std::string::npos, "the row has what was measured: " + row);
  // reading a block takes for ever: the widest
  check(calibrate({"h100_sxm", "card", "580.1", "2030-01-02", 1e-9, 5e6, {8, 0, 3, 0, 0, 0}, -1, 0.001}, row) == GRAVAL_OK && row.find("\"k\":256,") != std::string::npos, "k follows the rates");
  check(calibrate({"h100_sxm", "card", "580.1", "2030-01-02", 1e-9, 5e6, {8, 5, 3, 0, 0, 0}, -1, 0.001}, row) == GRAVAL_OK && row.find("\"k\":5,") != std::string::npos, "unless it is given");
}

/// The seeds of both fuzzers: a proof that holds, and a conversation that goes to its end.
void write_corpus(const std::string &dir) {
  const auto save = [&](const std::string &name, const std::vector<std::uint8_t> &bytes) {
    std::ofstream(dir + name, std::ios::binary).write(reinterpret_cast<const char *>(bytes.data()), std::streamsize(bytes.size()));
  };
  const graval_profile profile{8, 2, 5, 6, 3, 3};
  const std::vector<graval_fill_sample> fill = {{0, 1, 2}, {3, 4, 5}, {4, 7, 0}};
  const std::vector<graval_walk_sample> walk = {{0, 1, 0}, {5, 2, 1}, {2, 3, 1}};
  const std::uint8_t seed[32] = {1, 2, 3}, nonce2[32] = {4, 5, 6};
  const std::vector<std::uint8_t> proof = write_proof(prove(profile, seed, nonce2, fill, walk));
  save("verify/holds", proof);
  std::vector<std::uint8_t> said;
  const auto say = [&](std::uint8_t verb, const std::vector<std::uint8_t> &body) {
    put_u32(said, std::uint32_t(2 + body.size()));
    said.push_back(SERVE_VERSION);
    said.push_back(verb);
    put_bytes(said, body.data(), body.size());
  };
  std::vector<std::uint8_t> begin, samples;
  for (const std::uint32_t field : {0xffffffffu, 8u, 2u, 5u, 6u, 3u, 3u}) put_u32(begin, field);
  put_bytes(begin, seed, 32);
  for (const graval_fill_sample &s : fill) put_u32(samples, s.block), put_u32(samples, s.row), put_u32(samples, s.column);
  for (const graval_walk_sample &s : walk) put_u32(samples, s.step), put_u32(samples, s.row), put_u32(samples, s.column);
  say(SERVE_BEGIN, begin);
  say(SERVE_COMMIT, {});
  say(SERVE_WALK, std::vector<std::uint8_t>(nonce2, nonce2 + 32));
  say(SERVE_OPEN, samples);
  say(SERVE_END, {});
  save("serve/proves", said);
  said.clear();
  say(SERVE_VERIFY, proof);
  say(SERVE_SELFTEST, {0xff, 0xff, 0xff, 0xff});
  save("serve/verifies", said);
}

}  // namespace

/// With a folder: writes the fuzzers' corpus there instead.
int main(int argc, char **argv) {
  if (argc == 2) {
    write_corpus(std::string(argv[1]) + "/");
    return failures == 0 ? 0 : 1;
  }
  test_sha256();
  test_merkle();
  for (const Vectors &vectors : VECTORS) {
    test_vectors(vectors);
    test_changes(vectors);
  }
  check(VECTORS.size() == 2, "both vector files were read");
  test_foresight();
  test_serve();
  test_calibration();
  check(graval_selftest(-1) == GRAVAL_OK, "the reference agrees with itself");
  std::uint32_t failed = 0;
  check(graval_selftest_rounds(-1, 200, &failed) == GRAVAL_OK && failed == 200, "and on drawn instances");
  std::printf("%s\n", failures == 0 ? "all hold" : "some failed");
  return failures == 0 ? 0 : 1;
}
