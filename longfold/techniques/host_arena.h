// Memory of the host that a GPU copies to and from beside its kernels: page-locked.
#pragma once

#include <cstddef>
#include <cstdint>

namespace longfold::techniques {

class HostArena {
 public:
  // Zeros. base::RunError where there is no such memory, or the GPU cannot take it.
  explicit HostArena(int64_t bytes);
  ~HostArena();
  HostArena(const HostArena&) = delete;
  HostArena& operator=(const HostArena&) = delete;

  [[nodiscard]] void* at(int64_t offset) const { return begin_ + offset; }

 private:
  std::byte* begin_ = nullptr;
  int64_t bytes_;
};

}  // namespace longfold::techniques
