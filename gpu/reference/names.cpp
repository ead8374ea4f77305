#include "graval.h"

extern "C" {

uint32_t graval_abi_version(void) { return GRAVAL_ABI_VERSION; }

const char *graval_status_name(graval_status status) {
  switch (status) {
    case GRAVAL_OK: return "ok";
    case GRAVAL_INVALID_ARGUMENT: return "invalid_argument";
    case GRAVAL_OUT_OF_ORDER: return "out_of_order";
    case GRAVAL_OUT_OF_MEMORY: return "out_of_memory";
    case GRAVAL_NO_DEVICE: return "no_device";
    case GRAVAL_DEVICE_FAULT: return "device_fault";
    case GRAVAL_BUFFER_TOO_SMALL: return "buffer_too_small";
    case GRAVAL_REFUSED: return "refused";
  }
  return "unknown";
}

const char *graval_fault_name(graval_fault fault) {
  switch (fault) {
    case GRAVAL_FAULT_NONE: return "none";
    case GRAVAL_FAULT_CHALLENGE_MALFORMED: return "challenge_malformed";
    case GRAVAL_FAULT_SAMPLES_MALFORMED: return "samples_malformed";
    case GRAVAL_FAULT_OPENINGS_MALFORMED: return "openings_malformed";
    case GRAVAL_FAULT_FILL_ROW_NOT_COMMITTED: return "fill_row_not_committed";
    case GRAVAL_FAULT_FILL_SEED_BLOCK_DIFFERS: return "fill_seed_block_differs";
    case GRAVAL_FAULT_FILL_ENTRY_DIFFERS: return "fill_entry_differs";
    case GRAVAL_FAULT_WALK_LEAF_NOT_COMMITTED: return "walk_leaf_not_committed";
    case GRAVAL_FAULT_WALK_START_DIFFERS: return "walk_start_differs";
    case GRAVAL_FAULT_WALK_DIGEST_DIFFERS: return "walk_digest_differs";
    case GRAVAL_FAULT_WALK_ROW_NOT_COMMITTED: return "walk_row_not_committed";
    case GRAVAL_FAULT_WALK_ENTRY_DIFFERS: return "walk_entry_differs";
  }
  return "unknown";
}

#ifndef GRAVAL_CUDA
graval_status graval_device_count(uint32_t *count) {
  if (!count) return GRAVAL_INVALID_ARGUMENT;
  *count = 0;
  return GRAVAL_OK;
}
graval_status graval_device(uint32_t, graval_device_info *info) { return info ? GRAVAL_NO_DEVICE : GRAVAL_INVALID_ARGUMENT; }
#endif

}  // extern "C"
