#include "tests/simt/block.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace longfold::simt {
namespace {

// CUDA's built-in variables and the functions of ptx.cuh have no argument that could say which block they are of.
thread_local Block* running_block = nullptr;

struct Running {
  explicit Running(Block* block) : before(std::exchange(running_block, block)) {}
  ~Running() { running_block = before; }
  Block* before;
};

}  // namespace

Block& Block::current() {
  if (running_block == nullptr) throw Error("a function of kernels was called outside simt::launch");
  return *running_block;
}

Block::Block(unsigned num_blocks, unsigned num_threads, size_t shared_bytes, const Mode& mode,
             std::function<void()> kernel)
    : num_blocks_(num_blocks),
      mode_(mode),
      kernel_(std::move(kernel)),
      random_(mode.seed),
      memory_(shared_bytes),
      threads_(num_threads),
      warps_(num_threads / kLanes),
      warpgroups_((warps_.size() + kWarpsOfGroup - 1) / kWarpsOfGroup),
      clocks_(num_threads, Clock(static_cast<int>(num_threads), kMostBarriers)),
      fibres_(static_cast<int>(num_threads), [this](int) { thread_main(); }) {
  barriers_.reserve(kMostBarriers);  // threads that wait keep references
}

void Block::run(unsigned index) {
  const Running running(this);
  index_ = index;
  memory_.reset();
  barriers_.clear();
  named_barriers_.fill({});
  arrivals_.clear();
  num_in_block_ = num_ended_ = 0;
  for (int i = 0; i < static_cast<int>(threads_.size()); ++i) {
    clock(i).reset();
    clock(i)[i] = 1;
    thread(i).has_fenced_products = false;
    go_on(i);
  }
  fibres_.switch_to(pick());
  if (error_) std::rethrow_exception(error_);
  check_end();
}

void Block::thread_main() {
  try {
    for (;;) {
      kernel_();
      end_thread();
    }
  } catch (const std::exception&) {
    error_ = std::current_exception();
  }
  fibres_.switch_to(Fibres::kMain);
}

void Block::end_thread() {
  const int me = fibres_.running();
  if (!thread(me).copies.empty()) {
    throw Error(thread_name(me) + " ended after a copy at " + place(thread(me).copies.front().here) +
                " that no copies_arrive came after");
  }
  const Warp& warp = warp_of(me);
  if (warp.num_waiting > 0) {
    const int other = me / kLanes * kLanes + warp.first;
    throw Error(thread_name(me) + " ended while " + thread_name(other) + " waits for it in " +
                waits_for(thread(other)));
  }
  if (num_in_block_ > 0) {
    const auto other =
        std::find_if(threads_.begin(), threads_.end(), [](const Thread& t) { return t.state == State::kInBlock; });
    throw Error(thread_name(me) + " ended while " + thread_name(static_cast<int>(other - threads_.begin())) +
                " waits for it in " + waits_for(*other));
  }
  if (!thread(me).products.empty()) {
    throw Error(thread_name(me) + " ended after a product at " + place(thread(me).products.front().here) +
                " that no wait_for_products came after");
  }
  ++num_ended_;
  wait(State::kEnded, "", Here::current());
}

void Block::check_end() {
  while (land_one()) {
  }
  for (const Warpgroup& group : warpgroups_) {
    if (group.products.empty()) continue;
    throw Error("the block ended after a product at " + place(group.products.front().here) +
                " that not all warps of the warpgroup came to");
  }
  for (const Barrier& barrier : barriers_) {
    if (barrier.bytes_left != 0) {
      throw Error("the block ended while a barrier expects " + std::to_string(barrier.bytes_left) +
                  " more bytes of boxes");
    }
    if (barrier.copied.empty()) continue;
    throw Error("the block ended while copies were under way: " + std::to_string(barrier.count - barrier.left) +
                " of " + std::to_string(barrier.count) + " came to the barrier that their copies_arrive names");
  }
}

void Block::go_on(int index) {
  thread(index).state = State::kCanGoOn;
  warp_of(index).can_go_on |= 1u << index % kLanes;
}

void Block::wait(State state, const char* what, const Here& here) {
  const int me = fibres_.running();
  Thread& thread = this->thread(me);
  thread.state = state;
  thread.what = what;
  thread.here = here;
  warp_of(me).can_go_on &= ~(1u << me % kLanes);
  fibres_.switch_to(num_ended_ == static_cast<int>(threads_.size()) ? Fibres::kMain : pick());
}

// In a shuffled order other threads may go first wherever something becomes visible.
void Block::let_others_run() {
  if (mode_.order == Order::kShuffled && random(4) == 0) fibres_.switch_to(pick());
}

int Block::pick_lane(uint32_t lanes) {
  switch (mode_.order) {
    case Order::kAscending:
      return std::countr_zero(lanes);
    case Order::kDescending:
      return kLanes - 1 - std::countl_zero(lanes);
    case Order::kShuffled:
      break;
  }
  const int turn = random(kLanes);
  return (std::countr_zero(std::rotr(lanes, turn)) + turn) % kLanes;
}

// A thread that can go on: of the same warp while there is one, then of the next.
int Block::pick() {
  const int num_warps = static_cast<int>(warps_.size());
  for (;;) {
    const int first = mode_.order == Order::kDescending ? num_warps - 1 : 0;
    int warp = fibres_.running() == Fibres::kMain ? first : fibres_.running() / kLanes;
    if (mode_.order == Order::kShuffled && random(8) == 0) warp = random(num_warps);
    for (int i = 0; i < num_warps; ++i) {
      const uint32_t lanes = warps_[static_cast<size_t>(warp)].can_go_on;
      if (lanes != 0) return warp * kLanes + pick_lane(lanes);
      warp = (warp + (mode_.order == Order::kDescending ? num_warps - 1 : 1)) % num_warps;
    }
    if (!land_one()) throw Error("no thread of block " + std::to_string(index_) + " can go on: " + who_waits());
  }
}

std::string Block::waits_for(const Thread& thread) {
  std::string text = std::string(thread.what) + " at " + place(thread.here);
  if (thread.state == State::kAtBarrier) {
    const Barrier& barrier = barriers_[static_cast<size_t>(thread.barrier)];
    text += " for the end of phase " + std::to_string(thread.phase) + ", where " +
            std::to_string(barrier.count - barrier.left) + " of " + std::to_string(barrier.count) + " arrived";
    if (barrier.bytes_left != 0) text += " and " + std::to_string(barrier.bytes_left) + " bytes of boxes are expected";
  }
  return text;
}

std::string Block::who_waits() {
  std::string text;
  const int num_threads = static_cast<int>(threads_.size());
  for (int first = 0; first < num_threads;) {
    const std::string what = waits_for(thread(first));
    int end = first + 1;
    while (end < num_threads && thread(end).state == thread(first).state && waits_for(thread(end)) == what) ++end;
    if (thread(first).state != State::kEnded) {
      if (!text.empty()) text += "; ";
      text += thread_name(first) + (end > first + 1 ? " to " + thread_name(end - 1) : "") + " in " + what;
    }
    first = end;
  }
  return text;
}

// All threads of [first, end) come to know what any of them knows.
void Block::meet(int first, int end) {
  Clock all = clock(first);
  for (int i = first + 1; i < end; ++i) all.learn(clock(i));
  for (int i = first; i < end; ++i) {
    clock(i) = all;
    ++clock(i)[i];
  }
}

void Block::check_lanes(const char* name, Together work, const Here& here) {
  const int me = fibres_.running();
  const int first_lane = me / kLanes * kLanes;
  const Warp& warp = warp_of(me);
  for (int i = first_lane; i < first_lane + kLanes; ++i) {
    const Thread& other = thread(i);
    const bool differs = other.state == State::kInWarp && (warp.work != work || !same_place(other.here, here));
    if (!differs && other.state != State::kEnded && other.state != State::kInBlock &&
        other.state != State::kInWarpgroup) {
      continue;
    }
    throw Error(thread_name(me) + " came to " + name + " at " + place(here) + ", " + thread_name(i) +
                (other.state == State::kEnded ? " ended" : " waits in " + waits_for(other)));
  }
}

void Block::together(const char* name, Together work, const void* in, void* out, const Here& here) {
  const int me = fibres_.running();
  const int lane = me % kLanes;
  Warp& warp = warp_of(me);
  // Whoever comes later is checked against the first, or, where it ends or waits otherwise, then.
  if (warp.num_waiting == 0) {
    check_lanes(name, work, here);
    warp.first = lane;
    warp.work = work;
  } else if (warp.work != work || !same_place(here, thread(me - lane + warp.first).here)) {
    check_lanes(name, work, here);
  }
  warp.in[lane] = in;
  warp.out[lane] = out;
  if (++warp.num_waiting < kLanes) {
    wait(State::kInWarp, name, here);
    return;
  }
  warp.num_waiting = 0;
  work(warp.in, warp.out);
  for (int i = me - lane; i < me - lane + kLanes; ++i) go_on(i);
  let_others_run();
}

void Block::sync_warp(const Here& here) {
  together(
      "sync_warp",
      [](const void* const*, void* const*) {
        Block& block = Block::current();
        const int first = block.fibres_.running() / kLanes * kLanes;
        block.meet(first, first + kLanes);
      },
      nullptr, nullptr, here);
}

void Block::sync_block(const Here& here) {
  const int me = fibres_.running();
  const Warp& warp = warp_of(me);
  if (warp.num_waiting > 0) {
    const int other = me / kLanes * kLanes + warp.first;
    throw Error(thread_name(me) + " came to sync_block at " + place(here) + ", " + thread_name(other) + " waits in " +
                waits_for(thread(other)));
  }
  if (num_ended_ > 0) {
    const auto other =
        std::find_if(threads_.begin(), threads_.end(), [](const Thread& t) { return t.state == State::kEnded; });
    throw Error(thread_name(me) + " came to sync_block at " + place(here) + ", " +
                thread_name(static_cast<int>(other - threads_.begin())) + " ended");
  }
  if (++num_in_block_ < static_cast<int>(threads_.size())) {
    wait(State::kInBlock, "sync_block", here);
    return;
  }
  num_in_block_ = 0;
  const int num_threads = static_cast<int>(threads_.size());
  meet(0, num_threads);
  for (int i = 0; i < num_threads; ++i) go_on(i);
  let_others_run();
}

}  // namespace longfold::simt
