// Barriers in shared memory and the copies that arrive at them.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "tests/simt/block.h"
#include "tests/simt/tensor_map.h"

namespace longfold::simt {
namespace {

constexpr uint32_t kUnit = 16;  // of copies

}  // namespace

void Block::barrier_init(uint32_t address, uint32_t count, const Here& here) {
  const int me = fibres_.running();
  if (count < 1 || count >= 1u << 20) {
    throw Error(thread_name(me) + " expected a barrier_init with 1 to 2^20 - 1 arrivals at " + place(here) + ", got " +
                std::to_string(count));
  }
  const int index = static_cast<int>(barriers_.size());
  if (index == kMostBarriers) {
    throw Error(thread_name(me) + " made more barriers than kMostBarriers in tests/simt/block.h at " + place(here));
  }
  memory_.make_barrier(by(here), address, index);
  const Clock nothing(static_cast<int>(threads_.size()), kMostBarriers);
  barriers_.push_back({.count = static_cast<int>(count),
                       .left = static_cast<int>(count),
                       .bytes_left = 0,
                       .phase = 0,
                       .maker = me,
                       .made_at = clock(me)[me],
                       .is_fenced = false,
                       .gathered = nothing,
                       .ended = nothing,
                       .waiting = {},
                       .copied = {}});
}

Block::Barrier& Block::barrier(uint32_t address, const Here& here) {
  const int me = fibres_.running();
  Barrier& barrier = barriers_[static_cast<size_t>(memory_.barrier_at(by(here), address))];
  if (clock(me)[barrier.maker] < barrier.made_at) {
    throw Error(thread_name(me) + " uses a barrier at " + place(here) + " that " + thread_name(barrier.maker) +
                " made with no sync_block in between");
  }
  return barrier;
}

void Block::arrived(Barrier& barrier) {
  if (--barrier.left < 0) {
    throw Error("more than the " + std::to_string(barrier.count) +
                " arrivals of a phase that waits for bytes of boxes");
  }
  end_phase_if_complete(barrier);
}

void Block::end_phase_if_complete(Barrier& barrier) {
  if (barrier.left > 0 || barrier.bytes_left != 0) return;
  const int entity = static_cast<int>(threads_.size()) + static_cast<int>(&barrier - barriers_.data());
  const auto num_ended = static_cast<int32_t>(barrier.phase + 1);
  for (const uint32_t to : barrier.copied) memory_.end_copy(to, entity, num_ended);
  barrier.copied.clear();
  barrier.gathered[entity] = num_ended;
  barrier.ended = barrier.gathered;
  barrier.left = barrier.count;
  ++barrier.phase;
  for (const int thread : barrier.waiting) go_on(thread);
  barrier.waiting.clear();
}

void Block::barrier_arrive(uint32_t address, const Here& here) {
  const int me = fibres_.running();
  Barrier& barrier = this->barrier(address, here);
  barrier.gathered.learn(clock(me));
  ++clock(me)[me];
  arrived(barrier);
  let_others_run();
}

void Block::barrier_wait(uint32_t address, uint32_t parity, const Here& here) {
  const int me = fibres_.running();
  Barrier& barrier = this->barrier(address, here);
  if (parity > 1) {
    throw Error(thread_name(me) + " expected a barrier_wait for parity 0 or 1 at " + place(here) + ", got " +
                std::to_string(parity));
  }
  let_others_run();
  if (static_cast<uint32_t>(barrier.phase & 1) == parity) {
    Thread& thread = this->thread(me);
    thread.barrier = static_cast<int>(&barrier - barriers_.data());
    thread.phase = barrier.phase;
    barrier.waiting.push_back(me);
    wait(State::kAtBarrier, "barrier_wait", here);
    // A thread that looks now and then would see the parity it began with, and wait on.
    if (barrier.phase != thread.phase + 1) {
      throw Error(thread_name(me) + " waited at " + place(here) + " for the end of phase " +
                  std::to_string(thread.phase) + ", and phase " + std::to_string(barrier.phase - 1) +
                  " ended too before it could see that");
    }
  }
  clock(me).learn(barrier.ended);
}

void Block::copy_async(uint32_t to, const void* from, bool is_valid, const Here& here) {
  const int me = fibres_.running();
  if (is_valid && reinterpret_cast<uintptr_t>(from) % 16 != 0) {
    throw Error(thread_name(me) + " copies at " + place(here) + " from an address that is not a multiple of 16");
  }
  memory_.start_copy(by(here), to);
  const Copy copy{to, from, is_valid ? 16u : 0u, here};
  if (mode_.delivery == Delivery::kEarliest) deliver(copy);
  thread(me).copies.push_back(copy);
  let_others_run();
}

void Block::deliver(const Copy& copy) {
  // Through a local, so that AddressSanitizer sees a read of the source.
  std::array<std::byte, 16> bytes{};
  if (copy.num_bytes > 0) std::memcpy(bytes.data(), copy.from, copy.num_bytes);
  memory_.deliver_copy(copy.to, bytes.data());
}

// The arrival makes copies visible and nothing else: what the thread stored itself it must publish by barrier_arrive.
void Block::copies_arrive(uint32_t address, const Here& here) {
  const int me = fibres_.running();
  Barrier& barrier = this->barrier(address, here);
  start({me, static_cast<int>(&barrier - barriers_.data()), std::exchange(thread(me).copies, {})});
}

void Block::start(Arrival arrival) {
  if (mode_.delivery == Delivery::kEarliest) {
    land(arrival);
  } else {
    arrivals_.push_back(std::move(arrival));
  }
  let_others_run();
}

void Block::land(const Arrival& arrival) {
  Barrier& barrier = barriers_[static_cast<size_t>(arrival.barrier)];
  for (const Copy& copy : arrival.copies) {
    if (mode_.delivery == Delivery::kLatest) deliver(copy);
    barrier.copied.push_back(copy.to);
  }
  if (arrival.box_bytes == 0) return arrived(barrier);
  barrier.bytes_left -= arrival.box_bytes;
  end_phase_if_complete(barrier);
}

// The oldest arrival of some thread, or any box; false where nothing is to come.
bool Block::land_one() {
  if (arrivals_.empty()) return false;
  auto chosen = arrivals_.begin();
  if (mode_.order == Order::kDescending) chosen = arrivals_.end() - 1;
  if (mode_.order == Order::kShuffled) chosen += random(static_cast<int>(arrivals_.size()));
  if (chosen->box_bytes == 0) {
    chosen = std::find_if(arrivals_.begin(), chosen, [&](const Arrival& arrival) {
      return arrival.thread == chosen->thread && arrival.box_bytes == 0;
    });
  }
  const Arrival arrival = std::move(*chosen);
  arrivals_.erase(chosen);
  land(arrival);
  return true;
}

// Boxes are copied by another unit, which sees barriers only after this.
void Block::fence_barrier_init() {
  for (Barrier& barrier : barriers_) barrier.is_fenced |= barrier.maker == fibres_.running();
}

void Block::expect_bytes(uint32_t address, uint32_t num_bytes, const Here& here) {
  Barrier& barrier = this->barrier(address, here);
  barrier.bytes_left += num_bytes;
  end_phase_if_complete(barrier);
  let_others_run();
}

void Block::copy_box(uint32_t to, const void* map, uint32_t address, const int (&first)[5], const Here& here) {
  const int me = fibres_.running();
  TensorMap tensor;
  std::memcpy(&tensor, map, sizeof tensor);
  const Barrier& barrier = this->barrier(address, here);
  std::string wrong;
  if (tensor.magic != TensorMap::kMagic) wrong = "a map of simt::encode_tensor_map";
  if (!barrier.is_fenced) wrong = "fence_barrier_init after the barrier was made";
  if (to % 128 != 0) wrong = "a place that is a multiple of 128";
  if (!wrong.empty())
    throw Error(thread_name(me) + " came to copy_box at " + place(here) + ", which expected " + wrong);
  Arrival arrival{me, static_cast<int>(&barrier - barriers_.data()), {}, tensor.box_bytes()};
  tensor.for_units(to, first, [&](uint32_t unit, const std::byte* from, uint32_t num_bytes) {
    memory_.start_copy(by(here), unit);
    arrival.copies.push_back({unit, from, num_bytes, here});
    if (mode_.delivery == Delivery::kEarliest) deliver(arrival.copies.back());
  });
  start(std::move(arrival));
}

void Block::copy_bytes(uint32_t to, const void* from, uint32_t num_bytes, uint32_t address, const Here& here) {
  const int me = fibres_.running();
  const Barrier& barrier = this->barrier(address, here);
  std::string wrong;
  if (!barrier.is_fenced) wrong = "fence_barrier_init after the barrier was made";
  if (num_bytes == 0 || num_bytes % kUnit != 0) wrong = "a number of bytes that is a multiple of 16";
  if (reinterpret_cast<uintptr_t>(from) % kUnit != 0) wrong = "a source that is a multiple of 16";
  if (to % kUnit != 0) wrong = "a place that is a multiple of 16";
  if (!wrong.empty()) {
    throw Error(thread_name(me) + " came to copy_bytes at " + place(here) + ", which expected " + wrong);
  }
  Arrival arrival{me, static_cast<int>(&barrier - barriers_.data()), {}, num_bytes};
  for (uint32_t at = 0; at < num_bytes; at += kUnit) {
    memory_.start_copy(by(here), to + at);
    arrival.copies.push_back({to + at, static_cast<const std::byte*>(from) + at, kUnit, here});
    if (mode_.delivery == Delivery::kEarliest) deliver(arrival.copies.back());
  }
  start(std::move(arrival));
}

}  // namespace longfold::simt
