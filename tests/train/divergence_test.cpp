#include "longfold/train/divergence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/scratch.h"

namespace longfold::train {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class DivergenceTest : public testing::Test {
 protected:
  void save(const char* step) { std::filesystem::create_directories(folder_ / step); }
  std::string text(const Outcome& outcome) const { return describe(outcome, run_, folder_.path()); }
  std::string quoted(const char* step) const {
    std::string text = "'";
    return text.append((folder_ / step).string()).append("'");
  }

  ScratchFolder folder_;
  RunSoFar run_{.first_step = 1, .first_loss = 4.3, .vocab_size = 69, .learning_rate = 0.01, .init_std = 0.02};
};

TEST_F(DivergenceTest, NamesTheLastGoodCheckpointAndTheOneThatFails) {
  save("step-00000004");
  save("step-00000008");
  EXPECT_EQ(text({.step = 10, .loss = -NAN, .held_out_loss = 4.5, .grad_norm = kInfinity}),
            "step 10: the loss is nan, held out 4.5, the gradient norm inf; the last good checkpoint is " +
                quoted("step-00000008") + "; a lower optimizer.learning_rate than 0.01 or a longer warm-up may help");
  EXPECT_EQ(text({.step = 9, .loss = 3.25, .held_out_loss = {}, .grad_norm = -NAN}),
            "step 9: the loss is 3.25, the gradient norm nan; the last good checkpoint is " + quoted("step-00000004") +
                " (" + quoted("step-00000008") + " fails the same way: remove it before you resume); " +
                "a lower optimizer.learning_rate than 0.01 or a longer warm-up may help");
  EXPECT_EQ(
      text({.step = 5, .loss = NAN, .held_out_loss = {}, .grad_norm = {}}).find("after step 4: the loss is nan; "), 0);
}

TEST_F(DivergenceTest, BlamesTheWeightsForAWildStart) {
  run_.init_std = 1e10;
  EXPECT_EQ(
      text({.step = 1, .loss = NAN, .held_out_loss = {}, .grad_norm = NAN}),
      "step 1: the loss is nan, the gradient norm nan; there is no good checkpoint; no update was made yet: look at "
      "the initial weights (model.init_std is 1e+10)");
  run_.first_loss = 120.5;
  const std::string later = text({.step = 3, .loss = {}, .held_out_loss = {}, .grad_norm = NAN});
  EXPECT_NE(later.find("step 3: the loss is -, the gradient norm nan; "), std::string::npos) << later;
  EXPECT_NE(later.find("step 1 began at a loss of 120.5 where guessing gives 4.234: look at the initial weights "),
            std::string::npos)
      << later;
  run_.first_step = 3;  // resumed: the start is not known
  EXPECT_NE(text({.step = 3, .loss = {}, .held_out_loss = {}, .grad_norm = NAN}).find("learning_rate"),
            std::string::npos);
}

TEST_F(DivergenceTest, EveryNumberIsLookedAt) {
  EXPECT_TRUE((Outcome{1, 4.0, 4.0, 4.0}.is_finite()));
  EXPECT_TRUE((Outcome{1, {}, {}, {}}.is_finite()));
  EXPECT_FALSE((Outcome{1, NAN, 4.0, 4.0}.is_finite()));
  EXPECT_FALSE((Outcome{1, 4.0, kInfinity, 4.0}.is_finite()));
  EXPECT_FALSE((Outcome{1, 4.0, 4.0, -kInfinity}.is_finite()));
}

}  // namespace
}  // namespace longfold::train
