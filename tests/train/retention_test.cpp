#include "longfold/train/retention.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/train/checkpoint.h"
#include "tests/scratch.h"

namespace longfold::train {
namespace {

namespace fs = std::filesystem;

void save(const fs::path& output, int64_t step) {
  save_checkpoint(output,
                  {.step = step,
                   .recipe = nlohmann::ordered_json::object(),
                   .tokenizer = "t",
                   .tokenizer_hash = "h",
                   .data_hash = "d"},
                  {.model = {{"a", at::zeros(3)}}, .optimizer = {{"a.mean", at::zeros(3)}}});
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

std::vector<std::string> kept(const Retention& retention) {
  const ScratchFolder output;
  for (const int64_t step : {2, 4, 6, 8, 10}) save(output.path(), step);
  remove_old_checkpoints(output.path(), retention);
  std::vector<std::string> names = names_in(output.path());
  for (std::string& name : names) name = name.substr(name.find_last_not_of("0123456789") + 7);
  return names;
}

using Names = std::vector<std::string>;

TEST(Retention, KeepsTheNewestEveryAndTheBest) {
  EXPECT_EQ(kept({}), (Names{"02", "04", "06", "08", "10"}));
  EXPECT_EQ(kept({.last = 1}), (Names{"10"}));
  EXPECT_EQ(kept({.last = 2}), (Names{"08", "10"}));
  EXPECT_EQ(kept({.last = 9}), (Names{"02", "04", "06", "08", "10"}));
  EXPECT_EQ(kept({.last = 1, .every = 4}), (Names{"04", "08", "10"}));
  EXPECT_EQ(kept({.last = 1, .best = 2}), (Names{"02", "10"}));
  EXPECT_EQ(kept({.last = 1, .best = 3}), (Names{"10"})) << "no such checkpoint";
}

TEST(Retention, LeavesAloneWhatIsNotTheRunsOwn) {
  const ScratchFolder output;
  for (const int64_t step : {1, 2, 3, 4, 5, 6, 7}) save(output.path(), step);
  base::write_file(output / "step-00000001/notes.txt", "dear to someone");
  fs::remove(output / "step-00000002/manifest.json");
  fs::rename(output / "step-00000003", output / "step-3");
  fs::rename(output / "step-00000004", output / "elsewhere");
  fs::create_directory_symlink(output / "elsewhere", output / "step-00000004");
  fs::rename(output / "step-00000005", output / "step-00000009");  // its manifest says 5
  fs::create_directory(output / "step-00000005");
  remove_old_checkpoints(output.path(), {.last = 1});
  EXPECT_EQ(names_in(output.path()), (Names{"elsewhere", "step-00000001", "step-00000002", "step-00000004",
                                            "step-00000005", "step-00000007", "step-00000009", "step-3"}));
  EXPECT_EQ(names_in(output / "elsewhere").size(), 3);
}

TEST(Retention, WhatAKillLeftIsNoCheckpointAndGoesWithTheNextSave) {
  const ScratchFolder output;
  save(output.path(), 1);
  fs::rename(output / "step-00000001", output / "step-00000001.part-77");  // between the rename and the removal
  EXPECT_FALSE(latest_checkpoint(output.path()));
  save(output.path(), 2);
  EXPECT_EQ(names_in(output.path()), (Names{"step-00000002"}));
}

}  // namespace
}  // namespace longfold::train
