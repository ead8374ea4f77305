/* The open proof of GPU work and memory, version povw/2 (docs/proof.md "Exact definition"). One C interface, three
 * implementations that agree bit for bit: plain C++ (reference/), CUDA (kernels/), and TypeScript (workflows/domain/proof).
 *
 * Every entry point returns a status and writes results through pointers; none exits, throws or prints (GRAVAL_TRACE in the
 * environment has the failing call of a device named on stderr). Memory a caller passes in is the caller's; handles are
 * released by the matching destroy. A handle is used by one thread at a time. */
#ifndef CANOPY_GRAVAL_H
#define CANOPY_GRAVAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GRAVAL_ABI_VERSION 2
#define GRAVAL_PROOF_VERSION "povw/2"
#define GRAVAL_HASH_BYTES 32
/* The reference is there to define answers, not to fill machines. */
#define GRAVAL_REFERENCE_LIMIT (8ull << 30)

typedef enum graval_status {
  GRAVAL_OK = 0,
  GRAVAL_INVALID_ARGUMENT = 1, /* a null pointer, a profile out of bounds, a sample out of range */
  GRAVAL_OUT_OF_ORDER = 2,     /* walk before commit, open before walk */
  GRAVAL_OUT_OF_MEMORY = 3,    /* host or device */
  GRAVAL_NO_DEVICE = 4,        /* no such device, or no driver */
  GRAVAL_DEVICE_FAULT = 5,     /* the device reported an error; the prover can only be destroyed */
  GRAVAL_BUFFER_TOO_SMALL = 6, /* the size needed is in the out parameter */
  GRAVAL_REFUSED = 7           /* verification says no; the fault says why */
} graval_status;

/* Why a proof is refused, in the order the verifier looks. The names are those of workflows/domain/proof/verify-openings.ts. */
typedef enum graval_fault {
  GRAVAL_FAULT_NONE = 0,
  GRAVAL_FAULT_CHALLENGE_MALFORMED,
  GRAVAL_FAULT_SAMPLES_MALFORMED,
  GRAVAL_FAULT_OPENINGS_MALFORMED,
  GRAVAL_FAULT_FILL_ROW_NOT_COMMITTED,
  GRAVAL_FAULT_FILL_SEED_BLOCK_DIFFERS,
  GRAVAL_FAULT_FILL_ENTRY_DIFFERS,
  GRAVAL_FAULT_WALK_LEAF_NOT_COMMITTED,
  GRAVAL_FAULT_WALK_START_DIFFERS,
  GRAVAL_FAULT_WALK_DIGEST_DIFFERS,
  GRAVAL_FAULT_WALK_ROW_NOT_COMMITTED,
  GRAVAL_FAULT_WALK_ENTRY_DIFFERS
} graval_fault;

/* n: block edge; k: width of x; blocks: M; steps: T. Bounds: n <= 131072, k <= 4096, 2 <= blocks <= 65536,
 * steps <= 2^20, samples <= 4096 each and at least 2 walk samples. */
typedef struct graval_profile {
  uint32_t n;
  uint32_t k;
  uint32_t blocks;
  uint32_t steps;
  uint32_t fill_samples;
  uint32_t walk_samples;
} graval_profile;

typedef struct graval_fill_sample { uint32_t block, row, column; } graval_fill_sample;
typedef struct graval_walk_sample { uint32_t step, row, column; } graval_walk_sample;

typedef struct graval_device_info {
  char name[256];
  char uuid[33]; /* 32 lower-case hex, NUL */
  uint64_t memory_bytes;
  uint32_t processors;
  uint32_t clock_khz;
  uint32_t major, minor;
  uint32_t max_threads_per_processor;
} graval_device_info;

uint32_t graval_abi_version(void);
const char *graval_status_name(graval_status status);
const char *graval_fault_name(graval_fault fault);

/* Devices this build can prove with; the reference build has none and answers GRAVAL_OK with 0. */
graval_status graval_device_count(uint32_t *count);
graval_status graval_device(uint32_t index, graval_device_info *info);

/* ---- prover ---- */
typedef struct graval_prover graval_prover;

/* seed: S, 32 bytes. device: index, or -1 for the reference on the CPU (at most GRAVAL_REFERENCE_LIMIT bytes).
 * Takes the memory at once: graval_prover_bytes of it. */
graval_status graval_prover_bytes(const graval_profile *profile, int32_t device, uint64_t *bytes);
graval_status graval_begin(const graval_profile *profile, const uint8_t seed[GRAVAL_HASH_BYTES], int32_t device, graval_prover **out);
/* Fills every block in order and commits to all: R. */
graval_status graval_commit(graval_prover *prover, uint8_t root[GRAVAL_HASH_BYTES]);
/* T steps from x0 = PRG(H(S || N2 || R)), step t with block t mod M: D and W. May be called again with another nonce. */
graval_status graval_walk(graval_prover *prover, const uint8_t nonce2[GRAVAL_HASH_BYTES], uint8_t digest[GRAVAL_HASH_BYTES],
                          uint8_t trace_root[GRAVAL_HASH_BYTES]);
/* Writes the openings in the binary form of docs/proof.md; *size is the room on entry and the length on return. With
 * out == NULL only the length is told: it depends on the samples and, where M is no power of two, on the partner blocks they lead to. */
graval_status graval_open(graval_prover *prover, const graval_fill_sample *fill, size_t fill_count, const graval_walk_sample *walk,
                          size_t walk_count, uint8_t *out, size_t *size);
void graval_destroy(graval_prover *prover);

/* ---- verifier: CPU only, no allocation larger than a few rows, time bounded by the profile ---- */
typedef struct graval_claim {
  graval_profile profile;
  uint8_t seed[GRAVAL_HASH_BYTES];
  uint8_t root[GRAVAL_HASH_BYTES];
  uint8_t nonce2[GRAVAL_HASH_BYTES];
  uint8_t digest[GRAVAL_HASH_BYTES];
  uint8_t trace_root[GRAVAL_HASH_BYTES];
} graval_claim;

/* GRAVAL_OK: every sample holds. GRAVAL_REFUSED: *fault says why. Any bytes are answered, never read past `size`. */
graval_status graval_verify(const graval_claim *claim, const graval_fill_sample *fill, size_t fill_count, const graval_walk_sample *walk,
                            size_t walk_count, const uint8_t *openings, size_t size, graval_fault *fault);

/* Commits, walks, opens and verifies a small profile on the device (-1: CPU) and compares with the reference. */
graval_status graval_selftest(int32_t device);
/* The same on as many drawn small profiles and samples, always the same ones; at the first that differs, *failed is its number. */
graval_status graval_selftest_rounds(int32_t device, uint32_t rounds, uint32_t *failed);

#ifdef __cplusplus
}
#endif
#endif
