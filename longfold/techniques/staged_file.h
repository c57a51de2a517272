// Tensors of a GPU to a file and back: in pieces through page-locked memory of the host, one piece crossing the bus
// while the file takes or gives the other.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <mutex>

#include "longfold/techniques/host_arena.h"
#include "longfold/techniques/temporary_file.h"

namespace longfold::techniques {

class StagedFile {
 public:
  StagedFile(const TemporaryFile& file, at::Device gpu);

  // What the current stream has queued so far, for the calls below.
  [[nodiscard]] c10::Event queued() const;

  // Contiguous tensors, whole. Called from any thread; they return when all is done, and begin when `ready` has come.
  void write(const at::Tensor& tensor, const c10::Event& ready, int64_t offset);
  void read(const at::Tensor& tensor, const c10::Event& ready, int64_t offset);

 private:
  // A direction: two pieces, and the stream on which they cross.
  struct Lane {
    explicit Lane(at::Device gpu);
    [[nodiscard]] at::Tensor piece(int64_t index, int64_t bytes) const;  // on the host
    std::mutex mutex;
    HostArena arena;
    c10::Stream stream;
  };
  [[nodiscard]] c10::Event cross(const Lane& lane, const at::Tensor& to, const at::Tensor& from) const;

  const TemporaryFile& file_;
  at::Device gpu_;
  Lane out_, in_;
};

}  // namespace longfold::techniques
