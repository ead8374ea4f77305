#pragma once
// Checked calls and buffers that free themselves. Thrown types never leave the C interface (prover.cpp turns them into a status).
#ifdef GRAVAL_EMULATE
#include "cuda_emulator.hpp"
#else
#include <cuda_runtime.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <new>

#include "backend.hpp"

namespace graval {

/// GRAVAL_TRACE in the environment names the failing call on stderr: without it only a status is left.
inline void check_cuda(cudaError_t status, const char *file, int line) {
  if (status == cudaSuccess) return;
  if (std::getenv("GRAVAL_TRACE")) std::fprintf(stderr, "graval: %s:%d: %s\n", file, line, cudaGetErrorString(status));
  (void)cudaGetLastError();  // an error that is not sticky must not meet the next launch
  if (status == cudaErrorMemoryAllocation) throw std::bad_alloc();
  if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver || status == cudaErrorInvalidDevice) throw NoDevice{};
  throw DeviceFault{};
}
#define GRAVAL_CHECK(call) ::graval::check_cuda((call), __FILE__, __LINE__)

#ifndef GRAVAL_EMULATE
/// Every kernel starts here, and none goes unchecked.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 threads, std::size_t shared_bytes, cudaStream_t stream, const Arguments &...arguments) {
  kernel<<<grid, threads, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  GRAVAL_CHECK(cudaGetLastError());
}
#endif

/// `count` elements on the device, zeroed.
template <typename T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t count) : bytes_(count * sizeof(T)) {
    GRAVAL_CHECK(cudaMalloc(reinterpret_cast<void **>(&data_), bytes_));
    if (const cudaError_t status = cudaMemset(data_, 0, bytes_)) {
      cudaFree(data_);
      GRAVAL_CHECK(status);
    }
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer &) = delete;
  DeviceBuffer &operator=(const DeviceBuffer &) = delete;
  T *get() const { return data_; }

 private:
  T *data_ = nullptr;
  std::size_t bytes_;
};

/// Page-locked host memory, so that copies run beside kernels.
template <typename T>
class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::size_t count) { GRAVAL_CHECK(cudaMallocHost(reinterpret_cast<void **>(&data_), count * sizeof(T))); }
  ~PinnedBuffer() { cudaFreeHost(data_); }
  PinnedBuffer(const PinnedBuffer &) = delete;
  PinnedBuffer &operator=(const PinnedBuffer &) = delete;
  T *get() const { return data_; }

 private:
  T *data_ = nullptr;
};

class Stream {
 public:
  /// urgent: its thread blocks go first where a processor becomes free.
  explicit Stream(bool urgent = false) {
    int least = 0, greatest = 0;
    GRAVAL_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    GRAVAL_CHECK(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, urgent ? greatest : least));
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream &) = delete;
  Stream &operator=(const Stream &) = delete;
  operator cudaStream_t() const { return stream_; }
  void wait() const { GRAVAL_CHECK(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  explicit Event(unsigned flags = cudaEventDisableTiming) { GRAVAL_CHECK(cudaEventCreateWithFlags(&event_, flags)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event &) = delete;
  Event &operator=(const Event &) = delete;
  operator cudaEvent_t() const { return event_; }
  void record(cudaStream_t on) const { GRAVAL_CHECK(cudaEventRecord(event_, on)); }
  /// `on` goes no further before what was recorded is done; at once if nothing was.
  void hold(cudaStream_t on) const { GRAVAL_CHECK(cudaStreamWaitEvent(on, event_, 0)); }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace graval
