#include <ATen/ATen.h>
#include <c10/core/Event.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "longfold/base/error.h"
#include "longfold/base/text.h"
#include "longfold/memory/dry_run.h"
#include "longfold/techniques/gpu_copies.h"
#include "longfold/techniques/host_arena.h"
#include "longfold/techniques/places.h"
#include "longfold/techniques/shelf.h"

namespace longfold::techniques {
namespace {

constexpr int64_t kAlignment = 4096;
constexpr size_t kMostInFlight = 2;

struct HostState {
  HostState(int64_t most, memory::Term of) : bytes(most), term(of) {}

  // Where copies run, and the arena: made with the first tensor.
  void prepare(at::Device device) {
    if (arena || device.is_meta()) return;
    arena.emplace(bytes);
    copies.emplace(device);
  }

  int64_t bytes;
  memory::Term term;
  Places places;
  std::optional<HostArena> arena;
  std::optional<GpuCopies> copies;
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
    if (!is_dry()) copy.done = state_->copies->send(on_host(), copy.from);
    memory::assign_term(copy.from, state_->term);
    in_flight.push_back(std::move(copy));
  }
  ~OnHost() override {
    forget_copy();
    for (HostState::Copy& copy : state_->in_flight) {
      if (copy.owner == this) copy.owner = nullptr;  // the next one may lie at this address
    }
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
    if (!is_dry()) there_ = state_->copies->bring(to_, on_host());
  }

  at::Tensor get() override {
    prefetch();
    if (there_) there_->block(state_->copies->current());
    there_.reset();
    return std::move(to_);
  }

 private:
  [[nodiscard]] bool is_dry() const { return options_.device().is_meta(); }
  [[nodiscard]] at::Tensor on_host() const {
    return at::from_blob(state_->arena->at(offset_), sizes_, options_.device(at::kCPU));
  }
  void release_oldest() {
    auto& oldest = state_->in_flight.front();
    if (oldest.done) oldest.done->block(state_->copies->current());
    state_->in_flight.pop_front();
  }
  void forget_copy() {
    if (there_) there_->block(state_->copies->current());  // kernels may write to its memory when it is free
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
