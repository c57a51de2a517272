// One block of threads: a fibre each, with the warp's, the block's and the shared memory's ways of waiting.
//
// A thread runs until it must wait; then the order of the mode picks another that can go on. Copies and their arrivals
// are events of their own: with Delivery::kLatest they come only when no thread can go on without.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "tests/simt/clocks.h"
#include "tests/simt/error.h"
#include "tests/simt/fibres.h"
#include "tests/simt/mode.h"
#include "tests/simt/products.h"
#include "tests/simt/shared_memory.h"

namespace longfold::simt {

// What all 32 lanes of a warp do together: work(inputs of the lanes, outputs of the lanes).
using Together = void (*)(const void* const* in, void* const* out);

class Block {
 public:
  static constexpr int kMostBarriers = 64;
  static constexpr int kNamedBarriers = 16;  // the first is sync_block's

  Block(unsigned num_blocks, unsigned num_threads, size_t shared_bytes, const Mode& mode, std::function<void()> kernel);
  // Throws the first Error of any thread.
  void run(unsigned index);

  // The block whose thread is running; what follows is of that thread.
  static Block& current();
  [[nodiscard]] unsigned thread_index() const { return static_cast<unsigned>(fibres_.running()); }
  [[nodiscard]] unsigned index() const { return index_; }
  [[nodiscard]] unsigned num_threads() const { return static_cast<unsigned>(threads_.size()); }
  [[nodiscard]] unsigned num_blocks() const { return num_blocks_; }
  [[nodiscard]] bool cuts_sums() const { return mode_.sums == Sums::kCut; }

  void together(const char* name, Together work, const void* in, void* out, const Here& here);
  void sync_warp(const Here& here);
  void sync_block(const Here& here);

  void load(uint32_t from, void* to, uint32_t num_bytes, const Here& here) {
    memory_.load(by(here), from, to, num_bytes, true);
  }
  void load_row(uint32_t from, void* to, const Here& here) { memory_.load(by(here), from, to, 16, false); }
  void store(uint32_t to, const void* from, uint32_t num_bytes, const Here& here) {
    memory_.store(by(here), to, from, num_bytes);
  }
  void copy_async(uint32_t to, const void* from, bool is_valid, const Here& here);

  void barrier_init(uint32_t address, uint32_t count, const Here& here);
  void barrier_arrive(uint32_t address, const Here& here);
  void copies_arrive(uint32_t address, const Here& here);
  void barrier_wait(uint32_t address, uint32_t parity, const Here& here);

  void fence_barrier_init();
  void expect_bytes(uint32_t address, uint32_t num_bytes, const Here& here);
  void copy_box(uint32_t to, const void* map, uint32_t address, const int (&first)[5], const Here& here);
  void copy_bytes(uint32_t to, const void* from, uint32_t num_bytes, uint32_t address, const Here& here);

  // Products of warpgroups: block_products.cpp.
  void fence_stores_to_products();
  void fence_products();
  void start_product(const Product& product);
  void commit_products();
  void wait_for_products(int pending, const Here& here);
  void after_products(const void* d, size_t num_bytes, const Here& here);
  bool any_of_warpgroup(bool value, int barrier, const Here& here);

 private:
  enum class State : uint8_t { kCanGoOn, kInWarp, kInWarpgroup, kInBlock, kAtBarrier, kEnded };
  struct Copy {
    uint32_t to;
    const void* from;
    uint32_t num_bytes;  // of 16, the rest is zero
    Here here;
  };
  struct Thread {
    State state = State::kEnded;
    const char* what = "";  // it waits in
    Here here;
    int barrier = 0;                  // kAtBarrier: the one
    int64_t phase = 0;                // and the phase whose end it waits for
    std::vector<Copy> copies;         // that no copies_arrive came after
    std::vector<Product> products;    // that were not waited for
    std::vector<size_t> groups;       // where those of them end that are committed, as a number of products
    std::vector<LoadedUnits> loaded;  // while it waits for products
    bool has_fenced_products = false;
    bool any = false;  // of its warpgroup
  };
  struct Warp {
    uint32_t can_go_on = 0;  // a bit per lane
    int num_waiting = 0;     // in a function of the warp
    int first = 0;           // the lane that came first
    Together work = nullptr;
    const void* in[kLanes];
    void* out[kLanes];
  };
  struct Barrier {
    int count, left;
    int64_t bytes_left;  // to come from boxes; fewer than none while copies are ahead of expect_bytes
    int64_t phase;       // that has not ended
    int maker;
    int32_t made_at;
    bool is_fenced;
    Clock gathered, ended;         // of those that arrived, now and when the last phase ended
    std::vector<int> waiting;      // threads
    std::vector<uint32_t> copied;  // destinations of copies that arrived in this phase
  };
  struct Warpgroup {
    std::deque<Product> products;                  // that some of its warps have done and some have not
    std::array<size_t, kWarpsOfGroup> num_done{};  // of these, by each warp
  };
  struct NamedBarrier {
    int num_waiting = 0;
    int group = -1;  // the first thread of the warpgroup that uses it
    bool any = false;
  };
  // Of copies that copies_arrive came after, or of a box, which counts by its bytes.
  struct Arrival {
    int thread, barrier;
    std::vector<Copy> copies;
    uint32_t box_bytes = 0;
  };

  [[nodiscard]] SharedMemory::By by(const Here& here) {
    return {fibres_.running(), clocks_[static_cast<size_t>(fibres_.running())], here};
  }
  Thread& thread(int index) { return threads_[static_cast<size_t>(index)]; }
  Warp& warp_of(int thread) { return warps_[static_cast<size_t>(thread / kLanes)]; }
  Clock& clock(int thread) { return clocks_[static_cast<size_t>(thread)]; }

  void thread_main();
  void end_thread();
  void wait(State state, const char* what, const Here& here);
  void go_on(int thread);
  void let_others_run();
  int pick();
  int pick_lane(uint32_t lanes);
  int random(int bound) { return static_cast<int>(random_() % static_cast<unsigned>(bound)); }
  void meet(int first, int end);
  void check_other_warps(int warp, const Product& product);
  void check_lanes(const char* name, Together work, const Here& here);

  Barrier& barrier(uint32_t address, const Here& here);
  void arrived(Barrier& barrier);
  void end_phase_if_complete(Barrier& barrier);
  void deliver(const Copy& copy);
  void start(Arrival arrival);
  void land(const Arrival& arrival);
  bool land_one();
  void check_end();
  [[nodiscard]] std::string who_waits();
  [[nodiscard]] std::string waits_for(const Thread& thread);

  const unsigned num_blocks_;
  const Mode mode_;
  const std::function<void()> kernel_;
  unsigned index_ = 0;
  std::mt19937_64 random_;
  SharedMemory memory_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<Warpgroup> warpgroups_;
  std::array<NamedBarrier, kNamedBarriers> named_barriers_{};
  std::vector<Clock> clocks_;  // of the threads
  std::vector<Barrier> barriers_;
  std::deque<Arrival> arrivals_;  // to come
  int num_in_block_ = 0, num_ended_ = 0;
  std::exception_ptr error_;
  Fibres fibres_;  // last: its destructor unwinds the threads
};

}  // namespace longfold::simt
