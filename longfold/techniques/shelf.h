// A place where tensors wait while nobody needs them: on the device itself, in the host's memory, in a file.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>

#include "longfold/memory/dry_run.h"

namespace longfold::techniques {

// A tensor that waits; its place is free when this is gone.
class Shelved {
 public:
  virtual ~Shelved() = default;
  virtual void prefetch() {}     // begins to bring a copy: memory for it is taken now
  virtual at::Tensor get() = 0;  // the copy, or what waits itself: it may be changed if nobody will ask again
};

class Shelf {
 public:
  virtual ~Shelf() = default;
  // Begins to move it; what the caller no longer refers to is freed when that is done. base::RunError where an earlier
  // one could not be moved.
  [[nodiscard]] virtual std::shared_ptr<Shelved> put(const at::Tensor& tensor) = 0;

  [[nodiscard]] virtual int64_t bytes() const { return 0; }  // most that waited at once, off the device
};

// All shelves: `term` is what a dry run counts as that for which things wait (memory/dry_run.h).

// Nothing moves, but what is not contiguous is copied, so that what it is a part of can go.
[[nodiscard]] std::shared_ptr<Shelf> device_shelf(memory::Term term);

// The host's memory, for tensors of a GPU: one arena of `bytes`, registered with it, so that copies run beside the
// kernels, on streams of their own. Of what was put there the last two stay on the device until the next is put. More
// than fits: base::RunError. Tensors without data (meta): nothing is copied, and nothing is too much.
[[nodiscard]] std::shared_ptr<Shelf> host_shelf(int64_t bytes, memory::Term term);

// A file without a name in `folder`, which is gone when the process is. Written while the caller goes on: of what was
// put there, the last one stays in memory until the next is put or one is read. Tensors of any device.
// base::UserError where there can be no file.
[[nodiscard]] std::shared_ptr<Shelf> file_shelf(const std::filesystem::path& folder, memory::Term term);
// The same for tensors without data (meta), without a file.
[[nodiscard]] std::shared_ptr<Shelf> dry_file_shelf(memory::Term term);

}  // namespace longfold::techniques
