// Vector clocks: what each thread of a block knows of the others' progress.
//
// Why not ThreadSanitizer: it would see one thread of the system that switches stacks, could not know that a copy lands
// later or that a barrier in shared memory orders anything, and needs a build of its own. Clocks find a missing barrier
// in whatever order the fibres ran, give the same answer every time, and run in every build.
//
// Entities have times of their own: the threads, and after them the barriers in shared memory, whose time is the number
// of phases that ended. An access by entity e at time c happened before what thread t does now if of(t)[e] >= c.
//
// Products of warpgroups read by another way than threads do, and see what a thread stored only after a fence:
// fenced(e) is how far they see what entity e did.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace longfold::simt {

class Clock {
 public:
  Clock(int num_threads, int num_barriers)
      : num_threads_(num_threads),
        times_(static_cast<size_t>(num_threads + num_barriers), 0),
        fenced_(static_cast<size_t>(num_threads), 0) {}

  [[nodiscard]] int num_threads() const { return num_threads_; }

  [[nodiscard]] int32_t operator[](int entity) const { return times_[static_cast<size_t>(entity)]; }
  [[nodiscard]] int32_t& operator[](int entity) { return times_[static_cast<size_t>(entity)]; }
  void reset() {
    std::fill(times_.begin(), times_.end(), 0);
    std::fill(fenced_.begin(), fenced_.end(), 0);
  }
  // Of a thread.
  [[nodiscard]] int32_t fenced(int entity) const { return fenced_[static_cast<size_t>(entity)]; }
  void fence(int entity) { fenced_[static_cast<size_t>(entity)] = times_[static_cast<size_t>(entity)]; }

  void learn(const Clock& other) {
    const int32_t* from = other.times_.data();
    int32_t* to = times_.data();
    for (size_t i = 0; i < times_.size(); ++i) to[i] = std::max(to[i], from[i]);
    for (size_t i = 0; i < fenced_.size(); ++i) fenced_[i] = std::max(fenced_[i], other.fenced_[i]);
  }

 private:
  int num_threads_;
  std::vector<int32_t> times_, fenced_;
};

}  // namespace longfold::simt
