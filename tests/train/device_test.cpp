#include "longfold/train/device.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "longfold/base/error.h"

namespace longfold::train {
namespace {

// Two rows of eight tokens: a window of five and padding in each, or two windows.
data::Batch batch_of(bool packed) {
  data::Batch batch;
  batch.tokens = batch.labels = batch.positions = at::zeros({2, 8}, at::kLong);
  batch.weights = batch.held_out_weights = at::ones({2, 8}, at::kFloat);
  batch.documents = at::tensor({0, 5, 8, 13, 16}, at::kLong);
  batch.packed = packed;
  return batch;
}

TEST(BatchOn, TheCpuIsTheBatchItself) {
  const data::Batch batch = batch_of(false), same = batch_on(at::kCPU, batch);
  EXPECT_TRUE(same.documents.is_same(batch.documents) && same.tokens.is_same(batch.tokens));
}

// Any device that is not the CPU.
TEST(BatchOn, AGpuHasDocumentsOfPackedRowsAlone) {
  EXPECT_FALSE(batch_on(at::kMeta, batch_of(false)).documents.defined());
  const data::Batch packed = batch_on(at::kMeta, batch_of(true));
  EXPECT_TRUE(packed.documents.is_cpu());
  EXPECT_TRUE(packed.tokens.is_meta() && packed.labels.is_meta() && packed.positions.is_meta());
  EXPECT_TRUE(packed.weights.is_meta() && packed.held_out_weights.is_meta());
}

TEST(Resolve, KeepsWhatWasGiven) {
  ComputeConfig compute;
  compute.device = "cpu";
  compute.linear = "torch";
  resolve(compute);
  EXPECT_EQ(compute.device, "cpu");
  EXPECT_EQ(compute.linear, "torch");
  EXPECT_EQ(compute.attention, "longfold");
  compute.attention = "flash";
  EXPECT_THROW(resolve(compute), base::UserError);
}

}  // namespace
}  // namespace longfold::train
