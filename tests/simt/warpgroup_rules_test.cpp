// That products of warpgroups come late, and that what is left out is noticed.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "tests/simt/warpgroup_operands.h"

namespace longfold::simt {
namespace {

TEST(WarpgroupProducts, ComeWhenTheyAreWaitedFor) {
  expect_right_of_warpgroup([](int thread) {
    Operands of(thread);
    float second[8][4];
    ptx::fence_products();
    of.add();
    ptx::commit_products();
    ptx::multiply_async<bfloat16>(second, of.a, of.to_b);
    ptx::commit_products();
    EXPECT_EQ(of.d[0][0], of_d(row_of(thread, 0), column_of(thread, 0, 0)));
    EXPECT_TRUE(std::isnan(second[7][3]));
    ptx::wait_for_products<2>();
    EXPECT_EQ(of.d[0][0], of_d(row_of(thread, 0), column_of(thread, 0, 0)));
    ptx::wait_for_products<1>();
    expect_d<64>(thread, of.d, true);
    EXPECT_TRUE(std::isnan(second[7][3]));
    for (uint32_t& word : of.a) word = 0;  // too early
    ptx::wait_for_products<0>();
    EXPECT_EQ(second[7][3], 0.0f);
  });
}

TEST(WarpgroupProducts, AreNotWaitedForBeforeTheyAreCommitted) {
  expect_wrong_of_warpgroup({"ended after a product at warpgroup_"}, [](int thread) {
    Operands of(thread);
    ptx::fence_products();
    of.add();
    ptx::wait_for_products<0>();
  });
}

TEST(WarpgroupProducts, NeedAWait) {
  expect_wrong_of_warpgroup({"ended after a product"}, [](int thread) {
    Operands of(thread);
    ptx::fence_products();
    of.add();
    ptx::commit_products();
  });
  expect_wrong_of_warpgroup({"before it waited for a product"}, [](int thread) {
    Operands of(thread);
    ptx::fence_products();
    of.add();
    ptx::commit_products();
    ptx::after_products(of.d);
  });
}

TEST(WarpgroupProducts, NeedAFenceAfterEachWait) {
  expect_wrong_of_warpgroup({"expected fence_products"}, [](int thread) { Operands(thread).add(); });
  expect_wrong_of_warpgroup({"expected fence_products"}, [](int thread) {
    Operands of(thread);
    ptx::fence_products();
    of.add();
    wait_for_all();
    of.add();
  });
}

TEST(WarpgroupProducts, NeedAFenceAfterStores) {
  expect_wrong_of_warpgroup({"with no fence_stores_to_products after it"}, [](int thread) {
    Operands of(thread, false);
    ptx::fence_products();
    of.add();
    wait_for_all();
  });
  // By the store's thread, after the store; not by those who read, kThreads.
  const auto kernel = [](int fenced_by, bool early) {
    return [=](int thread) {
      Operands of(thread);
      if (thread == 5) {
        if (early) ptx::fence_stores_to_products();
        ptx::store_shared(of.b.place(0, 0), ptx::round_to<bfloat16>(of_b(0, 0)));
        if (fenced_by == 5) ptx::fence_stores_to_products();
      }
      ptx::sync_block();
      if (fenced_by == kThreads) ptx::fence_stores_to_products();
      ptx::fence_products();
      of.add();
      wait_for_all();
      expect_d<64>(thread, of.d, true);
    };
  };
  expect_right_of_warpgroup(kernel(5, false));
  expect_wrong_of_warpgroup({"warp 0 lane 5 at warpgroup_"}, kernel(kThreads, false));
  expect_wrong_of_warpgroup({"warp 0 lane 5 at warpgroup_"}, kernel(-1, false));
  expect_wrong_of_warpgroup({"warp 0 lane 5 at warpgroup_"}, kernel(-1, true));
}

TEST(WarpgroupProducts, ReadUntilTheyAreWaitedFor) {
  const auto kernel = [](bool waits, bool meets) {
    return [=](int thread) {
      Operands of(thread);
      ptx::fence_products();
      of.add();
      ptx::commit_products();
      if (waits) ptx::wait_for_products<0>();
      if (meets) ptx::sync_block();
      if (thread == 77) ptx::store_shared(of.b.place(3, 3), static_cast<uint16_t>(0));
      if (!waits) ptx::wait_for_products<0>();
      if (waits) expect_d<64>(thread, of.d, true);
    };
  };
  expect_right_of_warpgroup(kernel(true, true));
  expect_wrong_of_warpgroup({"read by", "written by warp 2 lane 13"}, kernel(true, false));
  expect_wrong_of_warpgroup({"read by", "written by warp 2 lane 13"}, kernel(false, true));
}

template <bool>
void one_product(int thread) {
  Operands of(thread);
  ptx::fence_products();
  of.add();
  ptx::commit_products();
  ptx::wait_for_products<0>();
}

TEST(WarpgroupProducts, AreOfTheWholeWarpgroup) {
  expect_wrong_of_warpgroup({"another warp of its warpgroup"}, [](int thread) {
    Operands of(thread);
    ptx::fence_products();
    if (thread / 32 == 2)
      of.multiply();
    else
      of.add();
    wait_for_all();
  });
  expect_wrong_of_warpgroup({"another warp of its warpgroup in"}, [](int thread) {
    if (thread / 32 == 2)
      one_product<true>(thread);
    else
      one_product<false>(thread);
  });
  expect_wrong_of_warpgroup({"with other descriptors"}, [](int thread) {
    Operands of(thread);
    ptx::fence_products();
    if (thread / 32 == 2) of.to_b += 16;  // eight rows
    of.add();
    wait_for_all();
  });
  expect_wrong_of_warpgroup({"not all warps of the warpgroup came to"}, [](int thread) {
    Operands of(thread);
    ptx::fence_products();
    if (thread / 32 != 1) of.add();
    wait_for_all();
  });
  expect_wrong_of_warpgroup({"lanes of a warp wait for different products"}, [](int thread) {
    Operands of(thread);
    ptx::fence_products();
    if (thread != 1) of.add();
    wait_for_all();
  });
  expect_error({"expected four warps in each warpgroup"}, [&](const Mode& mode) {
    launch(1, 160, kSharedBytes, mode, [] {
      Operands of(static_cast<int>(threadIdx.x));
      ptx::fence_products();
      of.add();
      wait_for_all();
    });
  });
}

TEST(WarpgroupProducts, CheckWhatDescriptorsName) {
  const auto kernel = [](auto change) {
    return [=](int thread) {
      Operands of(thread);
      change(of.to_b);
      ptx::fence_products();
      of.add();
      wait_for_all();
    };
  };
  expect_wrong_of_warpgroup({"expected b to be swizzled"}, kernel([](uint64_t& b) { b = b << 2 >> 2; }));
  expect_wrong_of_warpgroup({"the block has 49152"}, kernel([](uint64_t& b) { b += 47 * 64; }));
  expect_wrong_of_warpgroup({"which nobody wrote"}, kernel([](uint64_t& b) { b += 64; }));
}

TEST(WarpgroupProducts, AnyOfWarpgroup) {
  for (const Mode& mode : every_mode()) {
    run_warpgroups(mode, 2, [](int thread) {
      const int group = thread / kThreads;
      EXPECT_TRUE(ptx::any_of_warpgroup(thread == 5 + kThreads * group, 1 + group));
      EXPECT_FALSE(ptx::any_of_warpgroup(false, 1 + group));
      EXPECT_EQ(ptx::any_of_warpgroup(thread == 200, 1 + group), group == 1);
    });
  }
  expect_wrong_of_warpgroup({"'s warpgroup uses barrier 3"}, [](int) { ptx::any_of_warpgroup(false, 3); }, 2);
  expect_wrong_of_warpgroup({"expected a barrier of 1 to 15"}, [](int) { ptx::any_of_warpgroup(false, 0); });
  expect_wrong_of_warpgroup({"in any_of_warpgroup", "in sync_warp"}, [](int thread) {
    if (thread == 40)
      ptx::sync_warp();
    else
      ptx::any_of_warpgroup(false, 1);
  });
  expect_wrong_of_warpgroup({"can go on"}, [](int thread) {
    if (thread / 32 != 2) ptx::any_of_warpgroup(false, 1);
  });
}

// A barrier, its fence, and bytes that a thread copies.
struct Bytes {
  uint32_t at = kBase + 128, bytes = 64;
  size_t from = 0;
  bool fence = true, wait = true;

  void operator()(int thread) const {
    alignas(16) static const std::array<float, 20> numbers = {1, 2, 3, 4, 5};
    if (thread == 0) ptx::barrier_init(kBase, 1);
    if (thread == 0 && fence) ptx::fence_barrier_init();
    ptx::sync_block();
    if (thread == 0) {
      ptx::expect_bytes(kBase, bytes);
      ptx::copy_bytes(at, numbers.data() + from, bytes, kBase);
      ptx::barrier_arrive(kBase);
    }
    if (wait) ptx::barrier_wait(kBase, 0);
    EXPECT_EQ(ptx::load_shared<float>(kBase + 132), 2.0f);
    EXPECT_EQ(ptx::load_shared<float>(kBase + 188), 0.0f);
  }
};

TEST(CopyBytes, CopiesAndIsChecked) {
  expect_right_of_warpgroup(Bytes{});
  expect_wrong_of_warpgroup({"a place that is a multiple of 16"}, Bytes{.at = kBase + 136});
  expect_wrong_of_warpgroup({"a number of bytes that is a multiple of 16"}, Bytes{.bytes = 68});
  expect_wrong_of_warpgroup({"a source that is a multiple of 16"}, Bytes{.from = 1});
  expect_wrong_of_warpgroup({"expected fence_barrier_init"}, Bytes{.fence = false});
  expect_wrong_of_warpgroup({"is under way", "which nobody wrote", "without a wait", "read by"}, Bytes{.wait = false});
  expect_wrong_of_warpgroup({"the block has 49152"}, Bytes{.at = kBase + kSharedBytes - 32});
}

}  // namespace
}  // namespace longfold::simt
