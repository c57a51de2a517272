#include "longfold/ops/parallel_items.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

namespace longfold::ops {
namespace {

// Sets the number of threads for one test.
class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

TEST(ParallelItems, TwoItemsRunSideBySide) {
  const Threads threads(2);
  std::atomic<int> arrived = 0;
  std::array<std::thread::id, 2> ids;
  // Each waits for the other: on one thread the first would wait in vain.
  parallel_items(2, 0, [&](int64_t begin, int64_t end, std::span<std::byte>) {
    ASSERT_EQ(end, begin + 1);
    ids[static_cast<size_t>(begin)] = std::this_thread::get_id();
    ++arrived;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (arrived < 2 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    EXPECT_EQ(arrived, 2) << "item " << begin << " was alone";
  });
  EXPECT_NE(ids[0], ids[1]);
}

TEST(ParallelItems, EveryItemOnceWithScratchOfItsOwn) {
  for (const int num_threads : {1, 2, 3}) {
    const Threads threads(num_threads);
    for (const int64_t num_items : {1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> visits(static_cast<size_t>(num_items));
      std::atomic<int> torn = 0;
      parallel_items(num_items, 100, [&](int64_t begin, int64_t end, std::span<std::byte> scratch) {
        EXPECT_EQ(scratch.size(), 100u);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch.data()) % 64, 0u);
        for (int64_t item = begin; item < end; ++item) {
          const auto mark = static_cast<std::byte>(item);
          std::fill(scratch.begin(), scratch.end(), mark);
          ++visits[static_cast<size_t>(item)];
          std::this_thread::yield();
          for (const std::byte value : scratch) torn += value != mark;
        }
      });
      EXPECT_EQ(torn, 0) << "another thread wrote into this one's scratch";
      for (const auto& count : visits) EXPECT_EQ(count, 1);
    }
  }
}

TEST(ParallelItems, AnExceptionReachesTheCaller) {
  const Threads threads(2);
  EXPECT_THROW(parallel_items(8, 0,
                              [](int64_t begin, int64_t, std::span<std::byte>) {
                                if (begin == 5) throw std::runtime_error("item 5");
                              }),
               std::runtime_error);
}

}  // namespace
}  // namespace longfold::ops
