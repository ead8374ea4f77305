#include "proof_file.hpp"

#include <cstring>

#include "bytes.hpp"
#include "hashes.hpp"

namespace graval {

bool parse_proof(const std::uint8_t *data, std::size_t size, ProofFile &out) {
  ByteReader in(data, size);
  const std::uint8_t *magic = in.take(sizeof PROOF_MAGIC);
  if (!magic || std::memcmp(magic, PROOF_MAGIC, sizeof PROOF_MAGIC) != 0) return false;
  graval_profile &p = out.claim.profile;
  for (std::uint32_t *field : {&p.n, &p.k, &p.blocks, &p.steps, &p.fill_samples, &p.walk_samples}) *field = in.u32();
  for (std::uint8_t *hash : {out.claim.seed, out.claim.root, out.claim.nonce2, out.claim.digest, out.claim.trace_root}) in.copy(hash, 32);
  if (in.failed()) return false;
  if (!is_sound(p)) return true;  // its sample counts are not to be trusted
  const std::uint64_t samples = 12ull * (std::uint64_t(p.fill_samples) + p.walk_samples);
  if (in.left() < samples) return false;
  for (std::uint32_t i = 0; i < p.fill_samples; i++) {
    const std::uint32_t block = in.u32(), row = in.u32(), column = in.u32();
    out.fill.push_back({block, row, column});
  }
  for (std::uint32_t i = 0; i < p.walk_samples; i++) {
    const std::uint32_t step = in.u32(), row = in.u32(), column = in.u32();
    out.walk.push_back({step, row, column});
  }
  out.openings.assign(in.rest(), in.rest() + in.left());
  return true;
}

std::vector<std::uint8_t> write_proof(const ProofFile &proof) {
  std::vector<std::uint8_t> out(PROOF_MAGIC, PROOF_MAGIC + sizeof PROOF_MAGIC);
  const graval_profile &p = proof.claim.profile;
  for (const std::uint32_t field : {p.n, p.k, p.blocks, p.steps, p.fill_samples, p.walk_samples}) put_u32(out, field);
  for (const std::uint8_t *hash : {proof.claim.seed, proof.claim.root, proof.claim.nonce2, proof.claim.digest, proof.claim.trace_root}) put_bytes(out, hash, 32);
  for (const graval_fill_sample &s : proof.fill)
    for (const std::uint32_t field : {s.block, s.row, s.column}) put_u32(out, field);
  for (const graval_walk_sample &s : proof.walk)
    for (const std::uint32_t field : {s.step, s.row, s.column}) put_u32(out, field);
  put_bytes(out, proof.openings.data(), proof.openings.size());
  return out;
}

}  // namespace graval
