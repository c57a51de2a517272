#include "longfold/parallel/communicator.h"

#include <ATen/ATen.h>

#include <chrono>
#include <utility>

namespace longfold::parallel {
namespace {

void check(const char* what, const at::Tensor& x) {
  TORCH_CHECK(x.is_contiguous(), "[", what, "] expected a contiguous tensor, got strides ", x.strides(), " of sizes ",
              x.sizes());
}

void check_blocks(const char* what, const at::Tensor& blocks, const at::Tensor& one, int64_t num_processes) {
  check(what, blocks);
  check(what, one);
  TORCH_CHECK(blocks.scalar_type() == one.scalar_type() && blocks.dim() == one.dim() + 1 &&
                  blocks.size(0) == num_processes && blocks.sizes().slice(1) == one.sizes(),
              "[", what, "] expected ", one.scalar_type(), " of sizes [", num_processes, ", ...] around ", one.sizes(),
              ", got ", blocks.scalar_type(), " ", blocks.sizes());
}

void check_alike(const char* what, const at::Tensor& out, const at::Tensor& in) {
  check(what, out);
  check(what, in);
  TORCH_CHECK(out.scalar_type() == in.scalar_type() && out.sizes() == in.sizes(), "[", what, "] expected ",
              in.scalar_type(), " ", in.sizes(), ", got ", out.scalar_type(), " ", out.sizes());
}

int64_t bytes(const at::Tensor& x) {
  return static_cast<int64_t>(x.nbytes());
}

}  // namespace

Pending::Pending(c10::intrusive_ptr<c10d::Work> work, std::vector<at::Tensor> tensors, std::shared_ptr<Traffic> traffic)
    : work_(std::move(work)), tensors_(std::move(tensors)), traffic_(std::move(traffic)) {}

void Pending::wait() {
  if (!work_) return tensors_.clear();
  const auto start = std::chrono::steady_clock::now();
  std::exchange(work_, {})->wait();
  traffic_->seconds_waited += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  tensors_.clear();
}

Communicator::Communicator(c10::intrusive_ptr<c10d::Backend> backend)
    : backend_(std::move(backend)),
      rank_(backend_->getRank()),
      size_(backend_->getSize()),
      traffic_(std::make_shared<Traffic>()) {}

Communicator Communicator::dry(int64_t rank, int64_t size) {
  Communicator made;
  made.rank_ = rank, made.size_ = size, made.traffic_ = std::make_shared<Traffic>();
  return made;
}

Pending Communicator::begun_dry(const at::Tensor& x, int64_t scratch, int64_t bytes_sent) const {
  ++traffic_->calls;
  traffic_->bytes_sent += bytes_sent;
  return {nullptr, {x, scratch > 0 ? at::empty({scratch}, x.options()) : at::Tensor()}, traffic_};
}

Pending Communicator::begun(c10::intrusive_ptr<c10d::Work> work, std::vector<at::Tensor> tensors,
                            int64_t bytes_sent) const {
  ++traffic_->calls;
  traffic_->bytes_sent += bytes_sent;
  return {std::move(work), std::move(tensors), traffic_};
}

Pending Communicator::all_reduce(const at::Tensor& x) const {
  check("all_reduce", x);
  if (is_alone() || x.numel() == 0) return {};
  const int64_t own = (x.numel() + size() - 1) / size(), sent = 2 * (size() - 1) * bytes(x) / size();
  if (x.is_meta()) return begun_dry(x, (size() - 1) * own, sent);
  std::vector<at::Tensor> tensors{x};
  return begun(backend_->allreduce(tensors), {x}, sent);
}

Pending Communicator::all_gather(const at::Tensor& out, const at::Tensor& in) const {
  check_blocks("all_gather", out, in, size());
  if (is_alone()) at::Tensor(out).copy_(in.unsqueeze(0));
  if (is_alone() || in.numel() == 0) return {};
  const int64_t sent = (size() - 1) * bytes(in);
  if (in.is_meta()) return begun_dry(out, 0, sent);
  at::Tensor to = out, from = in;
  return begun(backend_->_allgather_base(to, from), {out, in}, sent);
}

Pending Communicator::reduce_scatter(const at::Tensor& out, const at::Tensor& in) const {
  check_blocks("reduce_scatter", in, out, size());
  if (is_alone()) at::Tensor(out).copy_(in[0]);
  if (is_alone() || out.numel() == 0) return {};
  const int64_t sent = (size() - 1) * bytes(out);
  if (in.is_meta()) return begun_dry(in, (size() - 1) * out.numel(), sent);
  at::Tensor to = out, from = in;
  return begun(backend_->_reduce_scatter_base(to, from), {out, in}, sent);
}

Pending Communicator::all_to_all(const at::Tensor& out, const at::Tensor& in) const {
  check_alike("all_to_all", out, in);
  TORCH_CHECK(in.dim() > 0 && in.size(0) == size(), "[all_to_all] expected [", size(), ", ...], got ", in.sizes());
  if (is_alone()) at::Tensor(out).copy_(in);
  if (is_alone() || in.numel() == 0) return {};
  const int64_t sent = (size() - 1) * bytes(in) / size();
  if (in.is_meta()) return begun_dry(in, 0, sent);
  at::Tensor to = out, from = in;
  std::vector<int64_t> even;
  return begun(backend_->alltoall_base(to, from, even, even), {out, in}, sent);
}

Pending Communicator::broadcast(const at::Tensor& x, int64_t root) const {
  check("broadcast", x);
  if (is_alone() || x.numel() == 0) return {};
  const int64_t sent = rank() == root ? (size() - 1) * bytes(x) : 0;
  if (x.is_meta()) return begun_dry(x, 0, sent);
  std::vector<at::Tensor> tensors{x};
  c10d::BroadcastOptions options;
  options.rootRank = root;
  return begun(backend_->broadcast(tensors, options), {x}, sent);
}

Pending Communicator::shift(const at::Tensor& out, const at::Tensor& in, int64_t by) const {
  check_alike("shift", out, in);
  const int64_t P = size(), to = ((rank() + by) % P + P) % P, from = ((rank() - by) % P + P) % P;
  if (to == rank()) at::Tensor(out).copy_(in);
  if (to == rank() || in.numel() == 0) return {};
  if (in.is_meta()) return begun_dry(in, 0, bytes(in));
  at::Tensor received = out.view({-1}), sent = in.view({-1});
  std::vector<int64_t> of_received(static_cast<size_t>(P)), of_sent(static_cast<size_t>(P));
  of_received[static_cast<size_t>(from)] = of_sent[static_cast<size_t>(to)] = in.numel();
  return begun(backend_->alltoall_base(received, sent, of_received, of_sent), {out, in}, bytes(in));
}

void Communicator::barrier(double timeout_seconds) const {
  if (is_alone()) return;
  c10d::BarrierOptions options;
  if (timeout_seconds > 0) options.timeout = std::chrono::milliseconds(static_cast<int64_t>(1000 * timeout_seconds));
  backend_->barrier(options)->wait();
}

}  // namespace longfold::parallel
