#include "longfold/parallel/mpi/backend.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <type_traits>
#include <utility>

#include "longfold/base/text.h"

namespace longfold::parallel::mpi {
namespace {

constexpr int kTags = 1 << 13;  // MPI promises 32,767 at least

std::byte* bytes_of(const at::Tensor& x, int64_t element = 0) {
  return static_cast<std::byte*>(x.data_ptr()) + element * static_cast<int64_t>(x.element_size());
}

int64_t size_of(const at::Tensor& x, int64_t count) {
  return count * static_cast<int64_t>(x.element_size());
}

// to[i] = the sum of the blocks' [i], in the order of ranks; 16-bit types in fp32.
void add_up(const std::vector<const void*>& blocks, void* to, int64_t count, at::ScalarType type) {
  AT_DISPATCH_ALL_TYPES_AND2(at::kBFloat16, at::kHalf, type, "all_reduce", [&] {
    using Sum = std::conditional_t<sizeof(scalar_t) == 2 && !std::is_integral_v<scalar_t>, float, scalar_t>;
    constexpr int64_t kAtOnce = 1024;
    Sum sums[kAtOnce];
    for (int64_t begin = 0; begin < count; begin += kAtOnce) {
      const int64_t n = std::min(kAtOnce, count - begin);
      std::fill_n(sums, n, Sum(0));
      for (const void* block : blocks) {
        const auto* const from = static_cast<const scalar_t*>(block) + begin;
        for (int64_t i = 0; i < n; ++i) sums[i] = static_cast<Sum>(sums[i] + static_cast<Sum>(from[i]));
      }
      auto* const result = static_cast<scalar_t*>(to) + begin;
      for (int64_t i = 0; i < n; ++i) result[i] = static_cast<scalar_t>(sums[i]);
    }
  });
}

}  // namespace

Backend::Backend(std::shared_ptr<Progress> progress, MPI_Comm comm, int rank, std::vector<int64_t> world_ranks)
    : c10d::Backend(rank, static_cast<int>(world_ranks.size())),
      progress_(std::move(progress)),
      group_{comm, std::make_shared<const std::vector<int64_t>>(std::move(world_ranks))} {}

Backend::Staged Backend::staged(const at::Tensor& out, const at::Tensor& in) {
  TORCH_CHECK(out.is_contiguous() && in.is_contiguous(), "[mpi] expected contiguous tensors, got strides ",
              out.strides(), " and ", in.strides());
  if (in.is_cpu()) return {in, out, {}};
  at::Tensor there = at::empty(out.sizes(), out.options().device(at::kCPU));
  return {in.cpu(), there, [out, there] { at::Tensor(out).copy_(there); }};
}

c10::intrusive_ptr<c10d::Work> Backend::start(const char* what, const at::Tensor& x, std::vector<Stage> stages,
                                              std::function<void()> at_wait, double timeout_seconds) {
  const auto exchange =
      c10::make_intrusive<Exchange>(std::string(what) + " of " + base::format_bytes(static_cast<int64_t>(x.nbytes())),
                                    group_, next_tag_, std::move(stages), std::move(at_wait), timeout_seconds);
  next_tag_ = (next_tag_ + 2) % kTags;
  progress_->start(exchange);
  return exchange;
}

Stage Backend::sum_parts(const at::Tensor& in, const std::vector<Part>& parts, const at::Tensor& out) const {
  const int64_t own = parts[static_cast<size_t>(rank_)].count;
  const at::Tensor received = at::empty({size_ - 1, own}, in.options());
  Stage stage;
  std::vector<const void*> blocks;
  int64_t row = 0;
  for (int peer = 0; peer < size_; ++peer) {
    const auto& [begin, count] = parts[static_cast<size_t>(peer)];
    if (peer == rank_) {
      blocks.push_back(bytes_of(in, begin));
      continue;
    }
    void* const to = bytes_of(received, row++ * own);
    blocks.push_back(to);
    stage.receives.push_back({peer, to, size_of(in, own)});
    stage.sends.push_back({peer, bytes_of(in, begin), size_of(in, count)});
  }
  stage.then = [blocks = std::move(blocks), in, received, out, own] {
    add_up(blocks, out.data_ptr(), own, in.scalar_type());
  };
  return stage;
}

c10::intrusive_ptr<c10d::Work> Backend::allreduce(std::vector<at::Tensor>& tensors,
                                                  const c10d::AllreduceOptions& options) {
  TORCH_CHECK(tensors.size() == 1 && options.reduceOp == c10d::ReduceOp::SUM, "[mpi] expected the sum of one tensor");
  return sum(tensors[0], 0);
}

c10::intrusive_ptr<c10d::Work> Backend::sum(const at::Tensor& tensor, double timeout_seconds) {
  const Staged x = staged(tensor, tensor);
  // Each process sums a part, of whole cache lines, and sends it to all.
  const int64_t n = x.in.numel(), each = (((n + size_ - 1) / size_) + 15) / 16 * 16;
  std::vector<Part> parts;
  for (int64_t p = 0; p < size_; ++p) {
    const int64_t begin = std::min(p * each, n);
    parts.push_back({begin, std::min(each, n - begin)});
  }
  const at::Tensor flat = x.in.view({-1}), result = x.out.view({-1});
  const auto& own = parts[static_cast<size_t>(rank_)];
  Stage spread;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    const auto& part = parts[static_cast<size_t>(peer)];
    spread.receives.push_back({peer, bytes_of(result, part.begin), size_of(result, part.count)});
    spread.sends.push_back({peer, bytes_of(result, own.begin), size_of(result, own.count)});
  }
  return start("all-reduce", x.in, {sum_parts(flat, parts, result.narrow(0, own.begin, own.count)), std::move(spread)},
               x.at_wait, timeout_seconds);
}

c10::intrusive_ptr<c10d::Work> Backend::_reduce_scatter_base(at::Tensor& out, at::Tensor& in,
                                                             const c10d::ReduceScatterOptions& options) {
  TORCH_CHECK(options.reduceOp == c10d::ReduceOp::SUM, "[mpi] expected a sum");
  const Staged x = staged(out, in);
  std::vector<Part> parts;
  for (int64_t p = 0; p < size_; ++p) parts.push_back({p * out.numel(), out.numel()});
  return start("reduce-scatter", x.in, {sum_parts(x.in.view({-1}), parts, x.out.view({-1}))}, x.at_wait);
}

c10::intrusive_ptr<c10d::Work> Backend::_allgather_base(at::Tensor& out, at::Tensor& in,
                                                        const c10d::AllgatherOptions&) {
  const Staged x = staged(out, in);
  const int64_t n = x.in.numel(), bytes = size_of(x.in, n);
  Stage stage;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    stage.receives.push_back({peer, bytes_of(x.out, peer * n), bytes});
    stage.sends.push_back({peer, x.in.data_ptr(), bytes});
  }
  std::memcpy(bytes_of(x.out, rank_ * n), x.in.data_ptr(), static_cast<size_t>(bytes));
  stage.then = [x] {};  // kept until then
  return start("all-gather", x.out, {std::move(stage)}, x.at_wait);
}

c10::intrusive_ptr<c10d::Work> Backend::alltoall_base(at::Tensor& out, at::Tensor& in, std::vector<int64_t>& out_splits,
                                                      std::vector<int64_t>& in_splits, const c10d::AllToAllOptions&) {
  const Staged x = staged(out, in);
  const auto part = [&](const at::Tensor& whole, const std::vector<int64_t>& splits, int peer) {
    const int64_t rows = splits.empty() ? whole.size(0) / size_ : splits[static_cast<size_t>(peer)];
    return rows * (whole.numel() / std::max<int64_t>(whole.size(0), 1));
  };
  Stage stage;
  int64_t from = 0, to = 0;  // elements
  for (int peer = 0; peer < size_; ++peer) {
    const int64_t sent = part(x.in, in_splits, peer), received = part(x.out, out_splits, peer);
    void *const source = bytes_of(x.in, from), *const target = bytes_of(x.out, to);
    from += sent, to += received;
    if (peer == rank_) {
      TORCH_CHECK(sent == received, "[mpi] expected as much for oneself as from oneself, got ", sent, " and ",
                  received);
      std::memcpy(target, source, static_cast<size_t>(size_of(x.in, sent)));
      continue;
    }
    if (received > 0) stage.receives.push_back({peer, target, size_of(x.out, received)});
    if (sent > 0) stage.sends.push_back({peer, source, size_of(x.in, sent)});
  }
  stage.then = [x] {};
  return start("all-to-all", x.in, {std::move(stage)}, x.at_wait);
}

c10::intrusive_ptr<c10d::Work> Backend::broadcast(std::vector<at::Tensor>& tensors,
                                                  const c10d::BroadcastOptions& options) {
  TORCH_CHECK(tensors.size() == 1, "[mpi] expected one tensor");
  const Staged x = staged(tensors[0], tensors[0]);
  const int root = static_cast<int>(options.rootRank);
  const auto bytes = static_cast<int64_t>(x.in.nbytes());
  Stage stage;
  if (rank_ == root) {
    for (int peer = 0; peer < size_; ++peer) {
      if (peer != root) stage.sends.push_back({peer, x.in.data_ptr(), bytes});
    }
  } else {
    stage.receives.push_back({root, x.out.data_ptr(), bytes});
  }
  stage.then = [x] {};
  return start("broadcast", x.in, {std::move(stage)}, rank_ == root ? std::function<void()>() : x.at_wait);
}

c10::intrusive_ptr<c10d::Work> Backend::barrier(const c10d::BarrierOptions& options) {
  const double seconds = std::chrono::duration<double>(options.timeout).count();
  return sum(at::zeros({1}, at::kLong), std::max(seconds, 0.0));
}

}  // namespace longfold::parallel::mpi
