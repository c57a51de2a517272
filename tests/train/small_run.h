// Small runs for the tests of the trainer: data that a model learns in a few steps, and what came of a run.
#pragma once

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "longfold/train/trainer.h"
#include "tests/scratch.h"

namespace longfold::train {

inline const std::atomic<bool> kNeverStop = false;

class TrainerTest : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }  // the tensors are tiny
};

// Bits are compared at each number of threads; the shapes are large enough to be split.
class TrainerAtThreads : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { at::set_num_threads(GetParam()); }
};

// A made-up genome that a model can learn: each codon mostly decides the next. The last tenth is held out.
std::vector<int32_t> learnable_tokens(int64_t count);
void write_data(const std::string& prefix, const std::vector<int32_t>& tokens, const char* tokenizer = "genslm69");
Recipe small_recipe(const ScratchFolder& folder, const std::string& output, int64_t length = 200);
// Of shapes that several threads share.
Recipe wide_recipe(const ScratchFolder& folder, const std::string& output);

struct RunResult {
  std::vector<double> losses, held_out_losses, grad_norms;
  NamedTensors parameters;
  bool finished = false;
};

// Stops after step `stop_after`, 0 for never.
RunResult run(const Recipe& recipe, bool resume = false, int64_t stop_after = 0);

void expect_same_parameters(const NamedTensors& a, const NamedTensors& b);

// The message with which a trainer is refused; "" if it is not.
std::string refusal(const Recipe& recipe, bool resume = false);

std::vector<std::string> checkpoints_in(const std::filesystem::path& output);

}  // namespace longfold::train
