#include "longfold/parallel/engine.h"

#include <gtest/gtest.h>

#include "longfold/base/error.h"

namespace longfold::parallel {
namespace {

TEST(Engine, AMissingOneIsNamed) {
  const Engine missing{.name = "mpi", .built = false, .why_not = "this build has none"};
  EXPECT_NO_THROW(require_engine(missing, 1));
  EXPECT_NO_THROW(require_engine({.name = "mpi", .built = true, .why_not = ""}, 4));
  try {
    require_engine(missing, 4);
    FAIL();
  } catch (const base::UserError& error) {
    EXPECT_STREQ(error.what(), "[mpi] this is one of 4 processes, but this build has none: start a single process");
  }
}

TEST(Engine, EachSaysWhyItIsMissing) {
  for (const Engine& engine : {mpi_engine(), nccl_engine()}) EXPECT_NE(engine.built, !engine.why_not.empty());
}

}  // namespace
}  // namespace longfold::parallel
