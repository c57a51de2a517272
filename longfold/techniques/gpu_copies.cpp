#include "longfold/techniques/gpu_copies.h"

#include <ATen/ATen.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace longfold::techniques {
namespace {

c10::impl::VirtualGuardImpl cuda() {
  return c10::impl::VirtualGuardImpl(at::kCUDA);
}

void wait(const c10::Stream& waits, const c10::Stream& for_stream) {
  c10::Event event(at::kCUDA);
  event.record(for_stream);
  event.block(waits);
}

}  // namespace

GpuCopies::GpuCopies(at::Device device)
    : device_(device), out_(cuda().getNewStream(device)), in_(cuda().getNewStream(device)) {}

c10::Stream GpuCopies::current() const {
  return cuda().getStream(device_);
}

c10::Event GpuCopies::bring(const at::Tensor& to, const at::Tensor& from) {
  return copy(to, from, in_, out_);
}
c10::Event GpuCopies::send(const at::Tensor& to, const at::Tensor& from) {
  return copy(to, from, out_, in_);
}

c10::Event GpuCopies::copy(const at::Tensor& to, const at::Tensor& from, const c10::Stream& stream,
                           const c10::Stream& other) const {
  wait(stream, current());  // what is copied is made there; what it is copied to was another tensor's there
  wait(stream, other);      // what it is copied to, or from, may be on its way still
  const c10::StreamGuard guard(stream);
  at::Tensor(to).copy_(from, /*non_blocking=*/true);
  c10::Event done(at::kCUDA);
  done.record(stream);
  return done;
}

}  // namespace longfold::techniques
