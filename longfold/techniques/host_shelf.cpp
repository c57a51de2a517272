#include <sys/mman.h>
#include <unistd.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/text.h"
#include "longfold/kernels/cuda/host_memory.h"
#include "longfold/memory/dry_run.h"
#include "longfold/techniques/places.h"
#include "longfold/techniques/shelf.h"

namespace longfold::techniques {
namespace {

constexpr int64_t kAlignment = 4096;
constexpr size_t kMostInFlight = 2;

c10::impl::VirtualGuardImpl cuda() {
  return c10::impl::VirtualGuardImpl(at::kCUDA);
}

// Memory of the host that a GPU may copy to and from.
class Arena {
 public:
  explicit Arena(int64_t bytes) : bytes_(bytes) {
    void* begin =
        ::mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (begin == MAP_FAILED) fail(std::strerror(errno));
    begin_ = static_cast<std::byte*>(begin);
    ::madvise(begin, static_cast<size_t>(bytes), MADV_HUGEPAGE);
    // The system gives each page when it is first touched: many threads are faster at that than the registration.
    at::parallel_for(0, (bytes + kAlignment - 1) / kAlignment, 4096, [&](int64_t first, int64_t last) {
      for (int64_t page = first; page < last; ++page) begin_[page * kAlignment] = std::byte{0};
    });
    const std::string problem = kernels::cuda::register_host_memory(begin, static_cast<size_t>(bytes));
    if (problem.empty()) return;
    ::munmap(begin, static_cast<size_t>(bytes));
    fail(problem);
  }
  ~Arena() {
    kernels::cuda::unregister_host_memory(begin_);
    ::munmap(begin_, static_cast<size_t>(bytes_));
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  [[nodiscard]] void* at(int64_t offset) const { return begin_ + offset; }

 private:
  [[noreturn]] void fail(const std::string& why) const {
    throw base::RunError("cannot register " + base::format_bytes(bytes_) +
                         " of the host's memory for memory.offload: " + why + " (file takes a file in place of it)");
  }
  std::byte* begin_ = nullptr;
  int64_t bytes_;
};

struct HostState {
  HostState(int64_t most, memory::Term of) : bytes(most), term(of) {}

  // Where copies run, and the arena: made with the first tensor.
  void prepare(at::Device device) {
    if (arena || device.is_meta()) return;
    arena.emplace(bytes);
    out.emplace(cuda().getNewStream(device));
    in.emplace(cuda().getNewStream(device));
  }

  int64_t bytes;
  memory::Term term;
  Places places;
  std::optional<Arena> arena;
  std::optional<c10::Stream> out, in;  // to the host, and from it
  struct Copy {
    const Shelved* owner;
    at::Tensor from;
    std::optional<c10::Event> done;
  };
  std::deque<Copy> in_flight;  // its memory is free for kernels that come after the copy
};

class OnHost final : public Shelved {
 public:
  OnHost(std::shared_ptr<HostState> state, const at::Tensor& tensor)
      : state_(std::move(state)),
        options_(tensor.options().requires_grad(false)),
        sizes_(tensor.sizes().vec()),
        size_((static_cast<int64_t>(tensor.nbytes()) + kAlignment - 1) / kAlignment * kAlignment),
        offset_(state_->places.take(size_)) {
    if (!is_dry() && offset_ + size_ > state_->bytes) {
      state_->places.free(offset_);
      throw base::RunError("[memory] expected at most " + base::format_bytes(state_->bytes) +
                           " to wait on the host, got " + base::format_bytes(offset_ + size_));
    }
    state_->prepare(tensor.device());
    auto& in_flight = state_->in_flight;
    if (in_flight.size() == kMostInFlight) release_oldest();
    HostState::Copy copy{this, tensor.detach().contiguous(), {}};
    if (!is_dry()) {
      wait(*state_->out, current());
      wait(*state_->out, *state_->in);  // what was here before may be on its way still
      const c10::StreamGuard guard(*state_->out);
      on_host().copy_(copy.from, /*non_blocking=*/true);
      copy.done.emplace(at::kCUDA);
      copy.done->record(*state_->out);
    }
    memory::assign_term(copy.from, state_->term);
    in_flight.push_back(std::move(copy));
  }
  ~OnHost() override {
    forget_copy();
    state_->places.free(offset_);
  }
  OnHost(const OnHost&) = delete;
  OnHost& operator=(const OnHost&) = delete;

  void prefetch() override {
    if (to_.defined()) return;
    // What is on its way out is still here; all else that is makes room.
    auto& in_flight = state_->in_flight;
    const auto own = std::ranges::find(in_flight, this, &HostState::Copy::owner);
    if (own != in_flight.end()) {
      to_ = own->from;
      there_ = std::move(own->done);  // who changes it waits for the copy
      in_flight.erase(own);
      return;
    }
    while (!in_flight.empty()) release_oldest();
    to_ = at::empty(sizes_, options_);
    if (is_dry()) return;
    wait(*state_->in, current());  // its memory was another tensor's before
    wait(*state_->in, *state_->out);
    const c10::StreamGuard guard(*state_->in);
    to_.copy_(on_host(), /*non_blocking=*/true);
    there_.emplace(at::kCUDA);
    there_->record(*state_->in);
  }

  at::Tensor get() override {
    prefetch();
    if (there_) there_->block(current());
    there_.reset();
    return std::move(to_);
  }

 private:
  [[nodiscard]] bool is_dry() const { return options_.device().is_meta(); }
  [[nodiscard]] c10::Stream current() const { return cuda().getStream(options_.device()); }
  [[nodiscard]] at::Tensor on_host() const {
    return at::from_blob(state_->arena->at(offset_), sizes_, options_.device(at::kCPU));
  }
  static void wait(const c10::Stream& waits, const c10::Stream& for_stream) {
    c10::Event event(at::kCUDA);
    event.record(for_stream);
    event.block(waits);
  }
  void release_oldest() {
    auto& oldest = state_->in_flight.front();
    if (oldest.done) oldest.done->block(current());
    state_->in_flight.pop_front();
  }
  void forget_copy() {
    if (there_) there_->block(current());  // kernels may write to its memory when it is free
    to_.reset();
  }

  std::shared_ptr<HostState> state_;
  at::TensorOptions options_;
  std::vector<int64_t> sizes_;
  int64_t size_, offset_;
  at::Tensor to_;
  std::optional<c10::Event> there_;
};

class HostShelf final : public Shelf {
 public:
  HostShelf(int64_t bytes, memory::Term term) : state_(std::make_shared<HostState>(bytes, term)) {}
  std::shared_ptr<Shelved> put(const at::Tensor& tensor) override { return std::make_shared<OnHost>(state_, tensor); }
  [[nodiscard]] int64_t bytes() const override { return state_->places.end(); }

 private:
  std::shared_ptr<HostState> state_;
};

}  // namespace

std::shared_ptr<Shelf> host_shelf(int64_t bytes, memory::Term term) {
  return std::make_shared<HostShelf>(bytes, term);
}

}  // namespace longfold::techniques
