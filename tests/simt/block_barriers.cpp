// Barriers in shared memory and the copies that arrive at them.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "tests/simt/block.h"

namespace longfold::simt {
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
  barriers_.push_back(
      {static_cast<int>(count), static_cast<int>(count), 0, me, clock(me)[me], nothing, nothing, {}, {}});
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

void Block::count_arrival(int index) {
  Barrier& barrier = barriers_[static_cast<size_t>(index)];
  if (--barrier.left > 0) return;
  const int entity = static_cast<int>(threads_.size()) + index;
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
  count_arrival(static_cast<int>(&barrier - barriers_.data()));
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
  const Copy copy{to, is_valid ? from : nullptr, here};
  if (mode_.delivery == Delivery::kEarliest) deliver(copy);
  thread(me).copies.push_back(copy);
  let_others_run();
}

void Block::deliver(const Copy& copy) {
  // Through a local, so that AddressSanitizer sees a read of the source.
  std::array<std::byte, 16> bytes{};
  if (copy.from != nullptr) std::memcpy(bytes.data(), copy.from, bytes.size());
  memory_.deliver_copy(copy.to, bytes.data());
}

// The arrival makes copies visible and nothing else: what the thread stored itself it must publish by barrier_arrive.
void Block::copies_arrive(uint32_t address, const Here& here) {
  const int me = fibres_.running();
  Barrier& barrier = this->barrier(address, here);
  Arrival arrival{me, static_cast<int>(&barrier - barriers_.data()), std::exchange(thread(me).copies, {})};
  if (mode_.delivery == Delivery::kEarliest) {
    land(std::move(arrival));
  } else {
    arrivals_.push_back(std::move(arrival));
  }
  let_others_run();
}

void Block::land(Arrival arrival) {
  Barrier& barrier = barriers_[static_cast<size_t>(arrival.barrier)];
  for (const Copy& copy : arrival.copies) {
    if (mode_.delivery == Delivery::kLatest) deliver(copy);
    barrier.copied.push_back(copy.to);
  }
  count_arrival(arrival.barrier);
}

// The oldest arrival of some thread; false where none is to come.
bool Block::land_one() {
  if (arrivals_.empty()) return false;
  auto chosen = arrivals_.begin();
  if (mode_.order == Order::kDescending) chosen = arrivals_.end() - 1;
  if (mode_.order == Order::kShuffled) chosen += random(static_cast<int>(arrivals_.size()));
  chosen =
      std::find_if(arrivals_.begin(), chosen, [&](const Arrival& arrival) { return arrival.thread == chosen->thread; });
  Arrival arrival = std::move(*chosen);
  arrivals_.erase(chosen);
  land(std::move(arrival));
  return true;
}

}  // namespace longfold::simt
