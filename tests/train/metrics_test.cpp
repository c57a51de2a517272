#include "longfold/train/metrics.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "tests/scratch.h"

namespace longfold::train {
namespace {

StepReport report(int64_t step) {
  StepReport made;
  made.step = step;
  made.loss = 1.0 / 3;
  return made;
}

TEST(Metrics, OneJsonLineForEachStepAtOnce) {
  const ScratchFolder folder;
  MetricsFile metrics(folder / "m", 0);
  metrics.write(report(1));
  metrics.write(report(2));
  const std::string text = base::read_file(folder / "m");  // while it is open
  ASSERT_EQ(text, to_json_line(report(1)) + to_json_line(report(2)));
  const auto json = nlohmann::json::parse(text.substr(0, text.find('\n')));
  EXPECT_EQ(json["loss"].get<double>(), 1.0 / 3) << "all digits";
  EXPECT_TRUE(json["held_out_loss"].is_null());
}

TEST(Metrics, NoLabelIsNullAndNotAPerfectLoss) {
  StepReport no_label = report(1);
  no_label.loss = std::nullopt;
  EXPECT_TRUE(nlohmann::json::parse(to_json_line(no_label))["loss"].is_null());
}

TEST(Metrics, ResumingDropsWhatIsDoneAgain) {
  const ScratchFolder folder;
  const std::string kept = to_json_line(report(1)) + to_json_line(report(2));
  base::write_file(folder / "m", kept + to_json_line(report(3)) + "{\"step\":4,\"lo");
  MetricsFile(folder / "m", 2).write(report(3));
  EXPECT_EQ(base::read_file(folder / "m"), kept + to_json_line(report(3)));
  base::write_file(folder / "m", kept + "{\"step\":3,\"lo");
  MetricsFile(folder / "m", 7).write(report(8));
  EXPECT_EQ(base::read_file(folder / "m"), kept + to_json_line(report(8)));
}

TEST(Metrics, RefusesAFileOfAnotherKind) {
  const ScratchFolder folder;
  base::write_file(folder / "m", to_json_line(report(1)) + "notes\n");
  try {
    const MetricsFile metrics(folder / "m", 2);
    FAIL();
  } catch (const base::UserError& error) {
    EXPECT_EQ(error.what(), "'" + (folder / "m").string() + "': line 2 is no JSON with a step");
  }
}

}  // namespace
}  // namespace longfold::train
