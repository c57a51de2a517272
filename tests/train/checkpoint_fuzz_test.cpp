// Every file of a checkpoint, spoiled: it is refused by a UserError of one line, or read as it was. Checksums guard all
// that matters.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "longfold/base/error.h"
#include "longfold/base/files.h"
#include "longfold/train/checkpoint.h"
#include "tests/scratch.h"
#include "tests/spoil.h"

namespace longfold::train {
namespace {

namespace fs = std::filesystem;

CheckpointTensors full(double value) {
  const auto tensor = [&](at::IntArrayRef shape) {
    return at::arange(shape[0] * shape[1], at::kFloat).view(shape) * value;
  };
  return {.model = {{"gpt_neox.embed_in.weight", tensor({69, 8})}, {"embed_out.weight", tensor({69, 8})}},
          .optimizer = {{"embed_out.weight.mean", tensor({69, 8})}, {"embed_out.weight.square", tensor({8, 1})}}};
}

Manifest manifest() {
  return {.step = 20,
          .recipe = {{"model", {{"num_layers", 2}, {"norm_epsilon", 1e-5}, {"activation", "gelu_tanh"}}},
                     {"data", {{"path", "some/where"}, {"held_out", 0.1}}},
                     {"train", {{"steps", 40}, {"seed", 3}}}},
          .tokenizer = "genslm69",
          .tokenizer_hash = "fnv1a64:8fb5978bb52e78fc",
          .data_hash = "fnv1a64:0123456789abcdef",
          .best = Best{.step = 10, .validation_loss = 4.125, .validation = "val"},
          .skips = {.total = 2, .in_a_row = 0}};
}

class CheckpointFuzz : public testing::TestWithParam<const char*> {
 protected:
  CheckpointFuzz() : path_(save_checkpoint(output_.path(), manifest(), full(0.5))), file_(path_ / GetParam()) {}

  // Whether a checkpoint whose file has these bytes is refused; it fails if what is read is wrong.
  bool is_refused(const std::string& bytes) {
    std::ofstream(file_, std::ios::binary) << bytes;
    const CheckpointTensors read = full(0), right = full(0.5);
    try {
      const Manifest found = read_manifest(path_), expected = manifest();
      load_tensors(path_, read);
      EXPECT_TRUE(found.step == expected.step && found.recipe == expected.recipe &&
                  found.tokenizer == expected.tokenizer && found.tokenizer_hash == expected.tokenizer_hash &&
                  found.data_hash == expected.data_hash && found.skips.total == 2 && found.skips.in_a_row == 0);
      EXPECT_TRUE(found.best && found.best->step == 10 && found.best->validation_loss == 4.125 &&
                  found.best->validation == "val");
      for (size_t i = 0; i < 2; ++i) {
        EXPECT_TRUE(at::equal(read.model[i].tensor, right.model[i].tensor));
        EXPECT_TRUE(at::equal(read.optimizer[i].tensor, right.optimizer[i].tensor));
      }
      return false;
    } catch (const base::UserError& error) {
      EXPECT_NE(std::string(error.what()).find("step-00000020"), std::string::npos) << error.what();
      return true;
    }
  }

  const ScratchFolder output_;
  const fs::path path_, file_;
};
INSTANTIATE_TEST_SUITE_P(Files, CheckpointFuzz,
                         testing::Values("manifest.json", "model.safetensors", "optimizer.safetensors"),
                         [](const auto& file) {
                           return std::string(file.param).substr(0, std::string(file.param).find('.'));
                         });

TEST_P(CheckpointFuzz, FlippedBitsAreRefused) {
  const std::string bytes = base::read_file(file_);
  EXPECT_FALSE(is_refused(bytes));
  const bool is_manifest = file_.extension() == ".json";
  int64_t read = 0;
  for_each_flip(bytes, 0, is_manifest ? 7 : kSpoiledEvery, [&](const std::string& spoiled, size_t at) {
    if (is_refused(spoiled)) return;
    ++read;
    EXPECT_FALSE(is_manifest || at > 500) << at << ": only the header's words for nobody may change unnoticed";
  });
  EXPECT_LE(read, 8);
}

TEST_P(CheckpointFuzz, CutsAreRefused) {
  const std::string bytes = base::read_file(file_);
  for_each_cut(bytes, file_.extension() == ".json" ? 7 : kSpoiledEvery,
               [&](const std::string& cut, size_t size) { EXPECT_TRUE(is_refused(cut)) << size; });
}

TEST_P(CheckpointFuzz, WhateverTheBytesNothingWrongIsRead) {
  for_each_spoiled({base::read_file(file_)},
                   {"{", "}", "[", "]", "\"", ",", ":", "0", "-1", "99999999999999999999", "null", "1e999", "\"step\"",
                    "\"version\": 2", "\"format\"", "\"crc32\"", "\xff", std::string(8, '\0')},
                   1000, [&](const std::string& bytes) { (void)is_refused(bytes); });
}

}  // namespace
}  // namespace longfold::train
