// What a kernel can do wrong is an error that names it, in every mode; what is right is none.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "longfold/kernels/cuda/ptx.cuh"
#include "tests/simt/every_mode.h"
#include "tests/simt/simt.h"

namespace longfold::simt {
namespace {

namespace ptx = kernels::cuda::ptx;

TEST(Divergence, ALaneThatEnded) {
  expect_wrong({"warp 1 lane 8 ended"}, [](int thread, uint32_t) {
    if (thread != 40) ptx::shuffle_xor(1, 1);
  });
}

TEST(Divergence, LanesInDifferentFunctions) {
  expect_wrong({"shuffle_xor", "any"}, [](int thread, uint32_t) {
    if (thread % 32 < 16) {
      ptx::shuffle_xor(1, 1);
    } else {
      ptx::any(true);
    }
  });
}

TEST(Divergence, LanesAtDifferentPlaces) {
  expect_wrong({"waits in sync_warp at emulator_test.cpp"}, [](int thread, uint32_t) {
    if (thread == 33) {
      ptx::sync_warp();
    } else {
      ptx::sync_warp();
    }
  });
}

TEST(Divergence, ABlockBarrierThatOneThreadPasses) {
  for (const int absent : {0, 33, 63}) {
    const std::string text = thread_name(absent) + " ended";
    expect_wrong({text.c_str()}, [absent](int thread, uint32_t) {
      if (thread != absent) ptx::sync_block();
    });
  }
}

TEST(Divergence, ABlockBarrierBesideAWarpFunction) {
  expect_wrong({"sync_block"}, [](int thread, uint32_t) {
    if (thread == 5) ptx::sync_block();
    ptx::ballot(true);
    if (thread != 5) ptx::sync_block();
  });
}

TEST(Deadlock, NamesWhoWaitsForWhat) {
  expect_wrong(
      {"no thread of block 0 can go on: warp 0 lane 0 to warp 0 lane 31 in barrier_wait at emulator_test.cpp:"},
      [](int thread, uint32_t base) {
        if (thread == 0) ptx::barrier_init(base, 33);
        ptx::sync_block();
        if (thread < 32) ptx::barrier_arrive(base);
        if (thread < 32) ptx::barrier_wait(base, 0);
      });
}

TEST(Deadlock, APhaseThatCanBeMissed) {
  expect_wrong({"phase 1 ended too before it could see that", "for the end of phase 2"}, [](int thread, uint32_t base) {
    if (thread == 0) ptx::barrier_init(base, 1);
    ptx::sync_block();
    if (thread == 0) ptx::barrier_wait(base, 0);
    if (thread == 32) ptx::barrier_arrive(base);
    if (thread == 32) ptx::barrier_arrive(base);
  });
}

TEST(SharedMemory, NobodyWrote) {
  expect_wrong({"loads shared byte 0x10"}, [](int thread, uint32_t base) {
    ptx::store_shared(base + 16 + static_cast<uint32_t>(thread) * 4 + 4, 1.0f);
    if (thread == 0) ptx::load_shared<float2>(base + 16);
  });
  expect_right([](int thread, uint32_t base) {
    uint32_t words[4];
    ptx::load_matrices(words, base + static_cast<uint32_t>(thread) * 16);
    EXPECT_TRUE(std::isnan(ptx::unpack<kernels::float16>(words[0]).x));
    EXPECT_TRUE(std::isnan(ptx::unpack<kernels::bfloat16>(words[3]).y));
    EXPECT_TRUE(std::isnan(__uint_as_float(words[1])));
  });
}

TEST(SharedMemory, OfTheBlockBeforeIsForgotten) {
  expect_error({"which nobody wrote"}, [](const Mode& mode) {
    launch(2, 32, kBytes, mode, [&] {
      const uint32_t base = ptx::shared_address(nullptr);
      const bool is_first = blockIdx.x == (mode.order == Order::kAscending ? 0 : 1);
      if (mode.order == Order::kShuffled || !is_first) ptx::load_shared<float>(base + threadIdx.x * 4);
      ptx::store_shared(base + threadIdx.x * 4, 1.0f);
    });
  });
}

TEST(SharedMemory, BoundsAndAlignment) {
  expect_wrong({"stores to 4 shared bytes from 1024 on at emulator_test.cpp:"}, [](int thread, uint32_t base) {
    if (thread == 40) ptx::store_shared(base + kBytes, 1.0f);
  });
  expect_wrong({"loads 4 shared bytes from -4 on"}, [](int, uint32_t base) { ptx::load_shared<float>(base - 4); });
  expect_wrong({"loads 16 shared bytes from 1008 on", "loads 16 shared bytes from 1016 on"}, [](int, uint32_t base) {
    uint32_t words[4];
    ptx::load_matrices(words, base + kBytes - 8);
  });
  expect_wrong({"not a multiple of 8"}, [](int, uint32_t base) { ptx::load_shared<float2>(base + 4); });
  expect_wrong({"not a multiple of 16"}, [](int, uint32_t base) { ptx::copy_async(base + 8, nullptr, false); });
}

TEST(SharedMemory, BarriersAreNoNumbers) {
  expect_wrong({"which is a barrier since"}, [](int thread, uint32_t base) {
    if (thread == 0) ptx::barrier_init(base, 1);
    if (thread == 0) ptx::store_shared(base + 4, 1.0f);
  });
  expect_wrong({"which is a barrier since"}, [](int thread, uint32_t base) {
    if (thread == 0) ptx::barrier_init(base, 1);
    if (thread == 0) ptx::barrier_init(base, 1);
  });
  expect_wrong({"barrier_init was not called"}, [](int thread, uint32_t base) {
    if (thread == 0) ptx::store_shared(base, 1.0f);
    if (thread == 0) ptx::barrier_arrive(base);
  });
  expect_wrong({"got 0"}, [](int, uint32_t base) { ptx::barrier_init(base, 0); });
}

// Thread 0 copies two units, thread 32 waits for them; `valid` is of the second.
struct Copy {
  alignas(16) float source[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  bool valid = true, arrives = true, waits = true;

  void operator()(int thread, uint32_t base) {
    const uint32_t barrier = base + 64;
    if (thread == 0) ptx::barrier_init(barrier, 2);
    if (thread == 0) ptx::barrier_arrive(barrier);
    ptx::sync_block();
    if (thread == 0) ptx::copy_async(base, source, true);
    if (thread == 0) ptx::copy_async(base + 16, valid ? source + 4 : nullptr, valid);
    if (thread == 0 && arrives) ptx::copies_arrive(barrier);
    ptx::sync_block();
    if (thread != 32) return;
    if (waits) ptx::barrier_wait(barrier, 0);
    EXPECT_EQ(ptx::load_shared<float4>(base).w, 4.0f);
    EXPECT_EQ(ptx::load_shared<float4>(base + 16).w, valid ? 8.0f : 0.0f);
  }
};

TEST(Copies, AreSeenAfterTheWait) {
  expect_right(Copy{});
  expect_right(Copy{.valid = false});
}

TEST(Copies, AreSeenByNobodyElse) {
  expect_wrong({"without a wait for the barrier of the copy", "is under way"}, Copy{.waits = false});
}

TEST(Copies, AreSeenAfterTheWaitForTheirOwnPhase) {
  expect_wrong({"without a wait for the barrier of the copy", "is under way"},
               [copy = Copy{}](int thread, uint32_t base) {
                 if (thread == 0) ptx::barrier_init(base + 64, 1);
                 ptx::sync_block();
                 for (uint32_t i = 0; i < 2; ++i) {
                   if (thread == 0) ptx::copy_async(base + i * 16, copy.source, true);
                   if (thread == 0) ptx::copies_arrive(base + 64);
                   if (thread == 32 && i == 0) ptx::barrier_wait(base + 64, 0);
                   ptx::sync_block();
                 }
                 if (thread == 32) ptx::load_shared<float>(base + 16);
               });
}

TEST(Copies, NeedAnArrival) {
  expect_wrong({"ended after a copy at", "is under way"}, Copy{.arrives = false, .waits = false});
  expect_wrong({"warp 0 lane 0 ended after a copy at"}, [copy = Copy{}](int thread, uint32_t base) {
    if (thread == 0) ptx::copy_async(base, copy.source, true);
  });
  expect_wrong({"the block ended while copies were under way: 1 of 2 came"},
               [copy = Copy{}](int thread, uint32_t base) {
                 if (thread != 0) return;
                 ptx::barrier_init(base + 64, 2);
                 ptx::copy_async(base, copy.source, true);
                 ptx::copies_arrive(base + 64);
               });
}

TEST(Copies, AreOfAlignedSources) {
  expect_wrong({"from an address that is not a multiple of 16"},
               [copy = Copy{}](int, uint32_t base) { ptx::copy_async(base, copy.source + 2, true); });
}

TEST(Copies, DoNotPublishWhatTheThreadStored) {
  expect_wrong({"written by warp 0 lane 0"}, [](int thread, uint32_t base) {
    if (thread == 0) ptx::barrier_init(base + 64, 1);
    ptx::sync_block();
    if (thread == 0) ptx::store_shared(base, 1.0f);
    if (thread == 0) ptx::copies_arrive(base + 64);
    if (thread == 32) ptx::barrier_wait(base + 64, 0);
    if (thread == 32) ptx::load_shared<float>(base);
  });
}

TEST(Copies, ReadTheirSourceEarlyOrLate) {
  for (const Delivery delivery : {Delivery::kEarliest, Delivery::kLatest}) {
    alignas(16) float source[4] = {1, 1, 1, 1};
    float seen = 0;
    launch(1, 32, kBytes, Mode{.delivery = delivery}, [&] {
      const uint32_t base = ptx::shared_address(nullptr);
      if (threadIdx.x != 0) return;
      ptx::barrier_init(base + 64, 1);
      ptx::copy_async(base, source, true);
      source[0] = 2;
      ptx::copies_arrive(base + 64);
      ptx::barrier_wait(base + 64, 0);
      seen = ptx::load_shared<float>(base);
    });
    EXPECT_EQ(seen, delivery == Delivery::kEarliest ? 1.0f : 2.0f);
  }
}

TEST(Launch, EveryThreadRunsOnce) {
  for (const Mode& mode : every_mode()) {
    std::vector<int> seen(5 * 96, 0);
    launch(5, 96, 0, mode, [&] {
      EXPECT_EQ(blockDim.x * gridDim.x, 5u * 96u);
      ++seen[blockIdx.x * blockDim.x + threadIdx.x];
    });
    EXPECT_EQ(seen, std::vector<int>(5 * 96, 1));
  }
}

TEST(Launch, OrdersDiffer) {
  const auto order_of = [](const Mode& mode) {
    std::vector<unsigned> order;
    launch(3, 64, 0, mode, [&] { order.push_back(blockIdx.x * 64 + threadIdx.x); });
    return order;
  };
  const std::vector<unsigned> ascending = order_of({Order::kAscending});
  const std::vector<unsigned> descending = order_of({Order::kDescending});
  EXPECT_TRUE(std::equal(ascending.begin(), ascending.end(), descending.rbegin()));
  EXPECT_NE(order_of({.order = Order::kShuffled, .seed = 1}), order_of({.order = Order::kShuffled, .seed = 2}));
  EXPECT_EQ(order_of({.order = Order::kShuffled, .seed = 1}), order_of({.order = Order::kShuffled, .seed = 1}));
}

TEST(Launch, RefusesWhatNoGpuRuns) {
  const auto kernel = [] {};
  expect_error({"got 33"}, [&](const Mode& mode) { launch(1, 33, 0, mode, kernel); });
  expect_error({"got 1056"}, [&](const Mode& mode) { launch(1, 1056, 0, mode, kernel); });
  expect_error({"got none"}, [&](const Mode& mode) { launch(0, 32, 0, mode, kernel); });
  expect_error({"got 232449"}, [&](const Mode& mode) { launch(1, 32, 227 * 1024 + 1, mode, kernel); });
}

TEST(Launch, FunctionsOfKernelsNeedOne) {
  EXPECT_THROW(ptx::sync_block(), Error);
}

#if defined(__SANITIZE_ADDRESS__)
TEST(MemorySafety, GlobalMemoryIsAddressSanitizers) {
  const std::unique_ptr<float[]> numbers(new float[8]());
  const auto launch_with = [&](auto kernel) { launch(1, 32, kBytes, {}, kernel); };
  EXPECT_DEATH(launch_with([&] { numbers[8] = 1.0f; }), "heap-buffer-overflow");
  EXPECT_DEATH(launch_with([&] { ptx::copy_async(ptx::shared_address(nullptr), numbers.get() + 8, true); }),
               "heap-buffer-overflow");
  EXPECT_DEATH(launch_with([&] {
                 volatile float local[4] = {};
                 local[threadIdx.x / 6] = 1.0f;  // a fibre's stack
                 EXPECT_EQ(local[0], 1.0f);
               }),
               "AddressSanitizer|out of bounds");
}
#endif

}  // namespace
}  // namespace longfold::simt
