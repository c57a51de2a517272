#include "longfold/train/batches_ahead.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "longfold/data/token_file.h"
#include "tests/scratch.h"

namespace longfold::train {
namespace {

void write_data(const std::string& prefix) {
  data::TokenFileWriter writer(prefix, data::make_tokenizer("genslm69"));
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 1000; ++i) tokens.push_back(5 + i % 64);
  writer.append(tokens);
  writer.end_sequence({.name = "made-up"});
  data::TokenFileInfo info{.sources = {}, .frame = "0", .counts = {}};
  info.counts.tokens = 1000;
  writer.commit(info);
}

TEST(BatchesAhead, GivesTheBatchesOfEachStepInOrder) {
  const ScratchFolder folder;
  write_data(folder / "data");
  const data::TokenFile file(folder / "data");
  const data::Sampler sampler(file, {.sequence_length = 50, .batch_size = 2});
  BatchesAhead ahead(sampler, 3, 4, 7);
  for (int64_t step = 4; step < 7; ++step) {
    const std::vector<data::Batch> batches = ahead.take();
    ASSERT_EQ(batches.size(), 3);
    for (int64_t i = 0; i < 3; ++i) {
      const data::Batch& got = batches[static_cast<size_t>(i)];
      const data::Batch expected = sampler.batch(step * 3 + i);
      EXPECT_TRUE(at::equal(got.tokens, expected.tokens)) << step << " " << i;
      EXPECT_TRUE(at::equal(got.labels, expected.labels)) << step << " " << i;
    }
  }
  EXPECT_THROW((void)ahead.take(), c10::Error);
}

TEST(BatchesAhead, EndsWithWhatWasReadUnused) {
  const ScratchFolder folder;
  write_data(folder / "data");
  const data::TokenFile file(folder / "data");
  const data::Sampler sampler(file, {.sequence_length = 50, .batch_size = 2});
  const BatchesAhead unused(sampler, 1, 0, 3);
  const BatchesAhead none(sampler, 1, 3, 3);
}

}  // namespace
}  // namespace longfold::train
