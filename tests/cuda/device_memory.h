// Memory on the device: a copy of everything that a problem on the host consists of, and a stream to work on.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <vector>

#include "longfold/kernels/cuda/evoformer_attention.h"

namespace longfold::kernels::cuda {

inline void require(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

class DeviceBytes {
 public:
  explicit DeviceBytes(int64_t count) : count_(static_cast<size_t>(count)) {
    require(cudaMalloc(&data_, std::max<size_t>(count_, 1)));
  }
  ~DeviceBytes() { (void)cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;

  [[nodiscard]] std::span<std::byte> span() const { return {static_cast<std::byte*>(data_), count_}; }

 private:
  size_t count_;
  void* data_ = nullptr;
};

class TestStream {
 public:
  TestStream() { require(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~TestStream() { (void)cudaStreamDestroy(stream_); }
  TestStream(const TestStream&) = delete;
  TestStream& operator=(const TestStream&) = delete;

  [[nodiscard]] Stream get() const { return stream_; }
  void wait() const { require(cudaStreamSynchronize(stream_)); }

 private:
  Stream stream_ = nullptr;
};

// Pieces of host memory, one behind the other on the device, aligned as cudaMalloc aligns.
class DeviceCopy {
 public:
  explicit DeviceCopy(std::vector<std::span<std::byte>> pieces)
      : pieces_(std::move(pieces)), offsets_(pieces_.size()), bytes_(place()) {
    copy(cudaMemcpyHostToDevice);
  }

  // Where the element at that host address is on the device. Null stays null.
  template <class T>
  [[nodiscard]] T* moved(T* host) const {
    if (host == nullptr) return nullptr;
    const auto* address = reinterpret_cast<const std::byte*>(host);
    for (size_t i = 0; i < pieces_.size(); ++i) {
      const std::byte* const first = pieces_[i].data();
      if (address < first || address >= first + pieces_[i].size()) continue;
      return reinterpret_cast<T*>(bytes_.span().data() + offsets_[i] + (address - first));
    }
    throw std::invalid_argument("an address that is in no piece");
  }
  void copy_back() { copy(cudaMemcpyDeviceToHost); }

 private:
  int64_t place() {
    int64_t end = 0;
    for (size_t i = 0; i < pieces_.size(); ++i) {
      offsets_[i] = end;
      end += (static_cast<int64_t>(pieces_[i].size()) + 255) / 256 * 256;
    }
    return end;
  }
  void copy(cudaMemcpyKind kind) {
    for (size_t i = 0; i < pieces_.size(); ++i) {
      std::byte* const device = bytes_.span().data() + offsets_[i];
      std::byte* const host = pieces_[i].data();
      const bool to_device = kind == cudaMemcpyHostToDevice;
      require(cudaMemcpy(to_device ? device : host, to_device ? host : device, pieces_[i].size(), kind));
    }
    // From ordinary memory the last bytes may still be under way, and the stream of a test does not wait for them.
    require(cudaDeviceSynchronize());
  }

  std::vector<std::span<std::byte>> pieces_;
  std::vector<int64_t> offsets_;
  DeviceBytes bytes_;
};

}  // namespace longfold::kernels::cuda
