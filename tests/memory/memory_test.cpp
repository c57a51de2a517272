// The count is exact, the limit is kept and explained, and blocks find their way home from any thread.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <latch>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "longfold/base/error.h"
#include "longfold/memory/counting_allocator.h"
#include "longfold/memory/meter.h"

namespace longfold::memory {
namespace {

constexpr int64_t kMiB = 1024 * 1024;

std::string run_error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const base::RunError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

// What the process has before anybody installs the meter.
struct Early {
  std::string message = run_error_of([] { MemoryMeter::installed(); });
  at::Tensor tensor = at::full({100000}, 7.0f);
  void* raw = c10::GetCPUAllocator()->raw_allocate(kMiB);
};
Early early;

at::Tensor bytes(int64_t count) {
  return at::empty({count}, at::kByte);
}

class Memory : public testing::Test {
 protected:
  ~Memory() override {
    meter.set_limit({0});
    meter.trim();
  }
  const MemoryMeter meter = MemoryMeter::install();
  CountingAllocator& allocator = CountingAllocator::install();
  const int64_t before = meter.live();
};

TEST_F(Memory, CountsExactlyWhatTensorsAskFor) {
  std::vector<at::Tensor> tensors{at::empty({1000}), at::empty({3}, at::kLong), at::empty({7, 11}, at::kDouble)};
  EXPECT_EQ(meter.live() - before, 4000 + 24 + 616);
  const at::Tensor view = tensors[0].narrow(0, 10, 5);
  EXPECT_EQ(meter.live() - before, 4640) << "a view takes nothing";
  tensors.push_back(bytes(kMiB + 1));
  EXPECT_EQ(meter.live() - before, 4640 + kMiB + 1);
  tensors.clear();
  EXPECT_EQ(meter.live() - before, 4000) << "the view keeps the first one";
}

TEST_F(Memory, PeakIsTheMostThatWasLiveAtOnce) {
  meter.reset_peak();
  EXPECT_EQ(meter.peak(), before);
  {
    const at::Tensor first = bytes(3 * kMiB);
  }
  {
    const at::Tensor second = bytes(2 * kMiB), third = bytes(5 * kMiB);
  }
  EXPECT_EQ(meter.peak() - before, 7 * kMiB);
  EXPECT_EQ(meter.live(), before);
  const at::Tensor kept = bytes(kMiB);
  meter.reset_peak();
  EXPECT_EQ(meter.peak() - before, kMiB);
}

TEST_F(Memory, EmptyTensorsTakeNothing) {
  const at::Tensor empty = at::empty({0, 4});
  EXPECT_EQ(empty.data_ptr(), nullptr);
  EXPECT_EQ(meter.live(), before);
  allocator.raw_deallocate(allocator.raw_allocate(0));
  EXPECT_EQ(meter.live(), before);
}

TEST_F(Memory, BlocksAreAligned) {
  for (const int64_t size : {int64_t{1}, int64_t{63}, int64_t{65}, int64_t{65535}, int64_t{65537}, 3 * kMiB + 5}) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes(size).data_ptr()) % 64, 0) << size;
  }
}

TEST_F(Memory, WhatCameBeforeTheInstallationIsFreedWhereItCameFrom) {
  EXPECT_EQ(early.message, "[memory] nothing is counted yet: install the meter first");
  ASSERT_TRUE(early.tensor.defined()) << "this test runs once a process";
  EXPECT_EQ(early.tensor.sum().item<float>(), 700000.0f);
  const int64_t live = meter.live();
  early.tensor.reset();
  c10::GetCPUAllocator()->raw_deallocate(early.raw);  // as oneDNN does, through the allocator of the day
  EXPECT_EQ(meter.live(), live);
}

TEST_F(Memory, ReuseIsCountedLikeAFreshBlock) {
  const void* address = nullptr;
  {
    const at::Tensor first = bytes(2 * kMiB);
    address = first.data_ptr();
  }
  EXPECT_EQ(meter.live(), before) << "cached is not live";
  EXPECT_EQ(allocator.cached(), 2 * kMiB);
  const at::Tensor second = bytes(2 * kMiB - 100);  // of the same size class
  EXPECT_EQ(second.data_ptr(), address);
  EXPECT_EQ(meter.live() - before, 2 * kMiB - 100);
  EXPECT_EQ(allocator.cached(), 0);
}

TEST_F(Memory, TrimEmptiesTheCache) {
  {
    const at::Tensor first = bytes(kMiB), second = bytes(2 * kMiB);
  }
  EXPECT_EQ(allocator.cached(), 3 * kMiB);
  meter.trim();
  EXPECT_EQ(allocator.cached(), 0);
}

TEST_F(Memory, TheCacheMakesRoomUnderALimit) {
  meter.set_limit({before + 10 * kMiB});
  {
    const at::Tensor first = bytes(8 * kMiB);
  }
  EXPECT_EQ(allocator.cached(), 8 * kMiB);
  const at::Tensor other = bytes(5 * kMiB);
  EXPECT_LE(meter.live() + allocator.cached(), before + 10 * kMiB);
  {
    const at::Tensor small = bytes(kMiB);
  }
  EXPECT_EQ(allocator.cached(), kMiB) << "there is room for this one";
  meter.set_limit({before + 5 * kMiB});
  EXPECT_EQ(allocator.cached(), 0);
}

TEST_F(Memory, TheCacheStaysNearTheMostThatWasEverLive) {
  {
    const at::Tensor most = bytes(64 * kMiB);
  }
  for (int64_t size = kMiB; size < 64 * kMiB; size += kMiB) {
    const at::Tensor x = bytes(size);
    ASSERT_LE(meter.live() + allocator.cached(), 2 * (before + 80 * kMiB));
  }
}

TEST_F(Memory, TheLimitIsExplainedAndLeavesEverythingUsable) {
  const at::Tensor kept = bytes(kMiB / 2).fill_(9);
  meter.set_limit({2 * kMiB});
  const int64_t live = meter.live();
  meter.reset_peak();
  EXPECT_EQ(run_error_of([] { bytes(3 * kMiB); }), "[memory] this step needs " + base::format_bytes(3 * kMiB) +
                                                       " more, " + base::format_bytes(live) + " of the " +
                                                       base::format_bytes(2 * kMiB) + " limit are in use");
  EXPECT_EQ(meter.live(), live);
  EXPECT_EQ(meter.peak(), live);
  const uint8_t* data = kept.const_data_ptr<uint8_t>();
  EXPECT_TRUE(std::all_of(data, data + kept.numel(), [](uint8_t value) { return value == 9; }));
  {
    const at::Tensor rest = bytes(2 * kMiB - live);  // to the last byte
    EXPECT_NE(run_error_of([] { bytes(1); }), "nothing was thrown");
  }
  meter.set_limit({0});
  EXPECT_EQ(bytes(3 * kMiB).numel(), 3 * kMiB);
}

TEST_F(Memory, AnAbsurdSizeIsAnErrorToo) {
  const int64_t live = meter.live();
  EXPECT_NE(run_error_of([this] { allocator.allocate(SIZE_MAX - 10); }).find("the system does not give them"),
            std::string::npos);
  EXPECT_EQ(meter.live(), live);
}

TEST_F(Memory, TheErrorComesThroughBackwardWithItsType) {
  at::Tensor x = at::ones({kMiB}).requires_grad_();
  const at::Tensor y = (x * x).exp().sum();
  meter.set_limit({meter.live() + kMiB});
  EXPECT_NE(run_error_of([&] { y.backward({}, /*retain_graph=*/true); }).find("[memory] this step needs 4"),
            std::string::npos);
  meter.set_limit({0});
  y.backward();
  EXPECT_NEAR(x.grad()[5].item<double>(), 2 * std::exp(1.0), 1e-5);
}

TEST_F(Memory, TheErrorComesThroughParallelLoopsWithItsType) {
  meter.set_limit({meter.live() + kMiB});
  EXPECT_NE(run_error_of([] { at::parallel_for(0, 4, 1, [](int64_t, int64_t) { bytes(2 * kMiB); }); }).find("[memory]"),
            std::string::npos);
}

TEST_F(Memory, ManyThreadsAllocateFillCheckAndFree) {
  constexpr int kThreads = 4, kRounds = 30000;
  std::latch start(kThreads);
  std::atomic<int64_t> damaged = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937 random(static_cast<unsigned>(t));
        std::vector<std::optional<at::Tensor>> slots(8);
        start.arrive_and_wait();
        for (int round = 0; round < kRounds; ++round) {
          std::optional<at::Tensor>& slot = slots[random() % slots.size()];
          if (slot) {
            const uint8_t* data = slot->const_data_ptr<uint8_t>();
            const int64_t last = slot->numel() - 1;
            if (data[0] != data[last] || data[last / 2] != data[0]) ++damaged;
            slot.reset();
          } else {
            slot = bytes(1 + static_cast<int64_t>(random() % (1u << (8 + random() % 12))));
            std::memset(slot->data_ptr(), t * 64 + round % 64, static_cast<size_t>(slot->numel()));
          }
        }
      });
    }
  }
  EXPECT_EQ(damaged, 0);
  EXPECT_EQ(meter.live(), before);
}

TEST_F(Memory, ABlockMayBeFreedByAnotherThread) {
  at::Tensor small = bytes(100), large = bytes(kMiB);
  EXPECT_EQ(meter.live() - before, kMiB + 100);
  std::jthread([moved = std::vector{std::move(small), std::move(large)}]() mutable { moved.clear(); }).join();
  EXPECT_EQ(meter.live(), before);
}

}  // namespace
}  // namespace longfold::memory
