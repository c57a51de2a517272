// The meter as Python sees it: through the dispatcher.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

namespace {

template <class Result>
Result call(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Result()>().call();
}

TEST(MemoryOps, CountThroughTheDispatcher) {
  call<void>("longfold::memory_install");
  call<void>("longfold::memory_reset_peak");
  const auto before = call<int64_t>("longfold::memory_live");
  {
    const at::Tensor x = at::empty({1000});
    EXPECT_EQ(call<int64_t>("longfold::memory_live") - before, 4000);
  }
  EXPECT_EQ(call<int64_t>("longfold::memory_live"), before);
  EXPECT_EQ(call<int64_t>("longfold::memory_peak") - before, 4000);
  call<void>("longfold::memory_reset_peak");
  EXPECT_EQ(call<int64_t>("longfold::memory_peak"), before);
}

}  // namespace
