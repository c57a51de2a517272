// Two threads at the same bytes of shared memory, with and without something in between that orders them.
#include <gtest/gtest.h>

#include <vector>

#include "longfold/kernels/cuda/ptx.cuh"
#include "tests/simt/every_mode.h"
#include "tests/simt/shared_memory.h"

namespace longfold::simt {
namespace {

namespace ptx = kernels::cuda::ptx;

void write_then_read(int thread, uint32_t base, void (*between)(int thread, uint32_t barrier)) {
  if (thread == 0) ptx::barrier_init(base + 8, 1);
  ptx::sync_block();
  if (thread == 0) ptx::store_shared(base, 1.0f);
  between(thread, base + 8);
  if (thread == 33) {
    EXPECT_EQ(ptx::load_shared<float>(base), 1.0f);
  }
}

TEST(Race, AWriteAndAReadNeedABarrier) {
  expect_wrong({"written by warp 0 lane 0", "read by warp 1 lane 1", "which nobody wrote"},
               [](int thread, uint32_t base) { write_then_read(thread, base, [](int, uint32_t) {}); });
  expect_wrong(
      {"written by warp 0 lane 0", "read by warp 1 lane 1", "which nobody wrote"},
      [](int thread, uint32_t base) { write_then_read(thread, base, [](int, uint32_t) { ptx::sync_warp(); }); });
  expect_right(
      [](int thread, uint32_t base) { write_then_read(thread, base, [](int, uint32_t) { ptx::sync_block(); }); });
  expect_right([](int thread, uint32_t base) {
    write_then_read(thread, base, [](int of, uint32_t barrier) {
      if (of == 0) ptx::barrier_arrive(barrier);
      if (of == 33) ptx::barrier_wait(barrier, 0);
    });
  });
}

// The barrier is in order, but another lane's.
TEST(Race, ALaneThatArrivesSpeaksForItselfAlone) {
  const auto kernel = [](bool sync) {
    return [sync](int thread, uint32_t base) {
      if (thread == 0) ptx::barrier_init(base + 8, 1);
      ptx::sync_block();
      if (thread == 1) ptx::store_shared(base, 1.0f);
      if (sync) ptx::sync_warp();
      if (thread == 0) ptx::barrier_arrive(base + 8);
      if (thread >= 32) ptx::barrier_wait(base + 8, 0);
      if (thread == 32) {
        EXPECT_EQ(ptx::load_shared<float>(base), 1.0f);
      }
    };
  };
  expect_wrong({"written by warp 0 lane 1", "read by warp 1 lane 0", "which nobody wrote"}, kernel(false));
  expect_right(kernel(true));
}

TEST(Race, WhatOneThreadLearnedItPassesOn) {
  expect_right([](int thread, uint32_t base) {
    if (thread == 0) ptx::barrier_init(base + 8, 1);
    if (thread == 0) ptx::barrier_init(base + 16, 1);
    ptx::sync_block();
    if (thread == 0) ptx::store_shared(base, 1.0f);
    if (thread == 0) ptx::barrier_arrive(base + 8);
    if (thread == 40) ptx::barrier_wait(base + 8, 0);
    if (thread == 40) ptx::barrier_arrive(base + 16);
    if (thread == 63) ptx::barrier_wait(base + 16, 0);
    if (thread == 63) ptx::store_shared(base, 2.0f);
  });
}

TEST(Race, LanesNeedSyncWarpAndAShuffleIsNone) {
  const auto kernel = [](bool sync) {
    return [sync](int thread, uint32_t base) {
      const uint32_t warp = base + static_cast<uint32_t>(thread / 32) * 128;
      ptx::store_shared(warp + static_cast<uint32_t>(thread % 32) * 4, static_cast<float>(thread));
      ptx::shuffle_xor(1, 1);
      if (sync) ptx::sync_warp();
      const uint32_t other = static_cast<uint32_t>(thread % 32) ^ 1u;
      EXPECT_EQ(ptx::load_shared<float>(warp + other * 4), static_cast<float>(thread ^ 1));
    };
  };
  expect_wrong({"written by warp"}, kernel(false));
  expect_right(kernel(true));
}

TEST(Race, AReadAndALaterWriteNeedABarrier) {
  const auto kernel = [](bool sync) {
    return [sync](int thread, uint32_t base) {
      if (thread == 0) ptx::store_shared(base, 1.0f);
      ptx::sync_block();
      if (thread >= 32) {
        EXPECT_EQ(ptx::load_shared<float>(base), 1.0f);
      }
      if (sync) ptx::sync_block();
      if (thread == 1) ptx::store_shared(base, 2.0f);
    };
  };
  expect_wrong({"with no barrier in between"}, kernel(false));
  expect_right(kernel(true));
}

// A word's list of reads is tidied now and then: at some of these lengths with the last read, which the writer does not
// know of.
TEST(Race, TheLastOfManyReadsCounts) {
  const Here here = Here::current();
  for (int num_reads = 500; num_reads < 530; ++num_reads) {
    SharedMemory memory(16);
    std::vector<Clock> clocks(3, Clock(3, 1));
    for (int i = 0; i < 3; ++i) clocks[static_cast<size_t>(i)][i] = 1;
    const float value = 1;
    float seen;
    memory.store({0, clocks[0], here}, SharedMemory::kBase, &value, 4);
    for (Clock& clock : clocks) clock.learn(clocks[0]);
    for (int i = 0; i < num_reads; ++i) {
      Clock& clock = clocks[static_cast<size_t>(i % 2)];
      memory.load({i % 2, clock, here}, SharedMemory::kBase, &seen, 4, true);
      if (i < num_reads - 1) clocks[2].learn(clock);
      if (i < num_reads - 1) ++clock[i % 2];
    }
    EXPECT_THROW(memory.store({2, clocks[2], here}, SharedMemory::kBase, &value, 4), Error) << num_reads;
    clocks[2].learn(clocks[0]);
    clocks[2].learn(clocks[1]);
    EXPECT_NO_THROW(memory.store({2, clocks[2], here}, SharedMemory::kBase, &value, 4)) << num_reads;
  }
}

TEST(Race, EveryReaderCounts) {
  expect_wrong({"read by warp 1 lane 0", "written by warp 0"}, [](int thread, uint32_t base) {
    if (thread == 0) ptx::barrier_init(base + 8, 1);
    if (thread == 0) ptx::store_shared(base, 1.0f);
    ptx::sync_block();
    if (thread == 32 || thread == 33) ptx::load_shared<float>(base);
    if (thread == 33) ptx::barrier_arrive(base + 8);
    if (thread == 0) ptx::barrier_wait(base + 8, 0);
    if (thread == 0) ptx::store_shared(base, 2.0f);
  });
}

TEST(Race, WhatComesAfterAnArrivalIsNotPublished) {
  expect_wrong({"written by warp 0 lane 0", "which nobody wrote", "read by warp 1 lane 0"},
               [](int thread, uint32_t base) {
                 if (thread == 0) ptx::barrier_init(base + 8, 1);
                 ptx::sync_block();
                 if (thread == 0) ptx::barrier_arrive(base + 8);
                 if (thread == 0) ptx::store_shared(base, 1.0f);
                 if (thread == 32) ptx::barrier_wait(base + 8, 0);
                 if (thread == 32) ptx::load_shared<float>(base);
               });
}

TEST(Race, TwoWritesOfOneWordButNotOfItsHalves) {
  expect_wrong({"written by warp"}, [](int thread, uint32_t base) {
    if (thread % 32 == 0) ptx::store_shared(base, 1u);
  });
  expect_right([](int thread, uint32_t base) {
    if (thread % 32 == 0) ptx::store_shared(base + static_cast<uint32_t>(thread / 16), static_cast<uint16_t>(thread));
    ptx::sync_block();
    EXPECT_EQ(ptx::load_shared<uint32_t>(base), 32u << 16);
  });
}

}  // namespace
}  // namespace longfold::simt
