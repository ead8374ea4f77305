// Devices of the C interface. Without a driver there are none; that is an answer, not a fault.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstring>

#include "graval.h"

extern "C" {

graval_status graval_device_count(uint32_t *count) {
  if (!count) return GRAVAL_INVALID_ARGUMENT;
  int found = 0;
  if (cudaGetDeviceCount(&found) != cudaSuccess) {
    (void)cudaGetLastError();
    found = 0;
  }
  *count = uint32_t(found);
  return GRAVAL_OK;
}

graval_status graval_device(uint32_t index, graval_device_info *info) {
  if (!info) return GRAVAL_INVALID_ARGUMENT;
  uint32_t count = 0;
  graval_device_count(&count);
  if (index >= count) return GRAVAL_NO_DEVICE;
  cudaDeviceProp properties;
  int clock_khz = 0;
  if (cudaGetDeviceProperties(&properties, int(index)) != cudaSuccess ||
      cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, int(index)) != cudaSuccess) {
    (void)cudaGetLastError();
    return GRAVAL_DEVICE_FAULT;
  }
  *info = graval_device_info{};
  static_assert(sizeof info->name >= sizeof properties.name, "a name fits, with its end");
  std::memcpy(info->name, properties.name, sizeof properties.name);
  for (int i = 0; i < 16; i++) std::snprintf(info->uuid + 2 * i, 3, "%02x", static_cast<unsigned char>(properties.uuid.bytes[i]));
  info->memory_bytes = properties.totalGlobalMem;
  info->processors = uint32_t(properties.multiProcessorCount);
  info->clock_khz = uint32_t(clock_khz);
  info->major = uint32_t(properties.major);
  info->minor = uint32_t(properties.minor);
  info->max_threads_per_processor = uint32_t(properties.maxThreadsPerMultiProcessor);
  return GRAVAL_OK;
}

}  // extern "C"
