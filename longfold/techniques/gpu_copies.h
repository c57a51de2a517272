// Copies between a GPU and its host on streams of their own, beside the kernels of the current stream.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <deque>
#include <optional>

namespace longfold::techniques {

class GpuCopies {
 public:
  explicit GpuCopies(at::Device device);

  // Begins `to` = `from`, a tensor of the host in page-locked memory. What is queued after arrived->block(stream) sees
  // it; `to`'s memory is used from what is queued now on.
  [[nodiscard]] c10::Event bring(const at::Tensor& to, const at::Tensor& from);
  // The other way, after what is queued now.
  [[nodiscard]] c10::Event send(const at::Tensor& to, const at::Tensor& from);

  [[nodiscard]] c10::Stream current() const;  // of kernels

 private:
  [[nodiscard]] c10::Event copy(const at::Tensor& to, const at::Tensor& from, const c10::Stream& stream,
                                const c10::Stream& other) const;

  at::Device device_;
  c10::Stream out_, in_;  // to the host, and from it
};

}  // namespace longfold::techniques
